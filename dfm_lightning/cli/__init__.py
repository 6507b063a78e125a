"""The `dfm` command."""

from dfm_lightning.cli.entry import main

__all__ = ["main"]
