"""Vimeo-90K: clips of three or seven frames."""

from datamodules.vimeo90k.datamodule import Vimeo90KDataModule

__all__ = ["Vimeo90KDataModule"]
