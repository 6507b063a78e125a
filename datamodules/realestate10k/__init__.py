"""RealEstate10k in its common forms, and captures and photographs of your own."""

from datamodules.realestate10k.datamodule import RealEstate10kDataModule

__all__ = ["RealEstate10kDataModule"]
