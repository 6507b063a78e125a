"""Co3D (version 2), read without PyTorch3D."""

from datamodules.co3d.datamodule import Co3DDataModule, SequenceCounts

__all__ = ["Co3DDataModule", "SequenceCounts"]
