"""RealEstate10k in the forms in which people have it, and one's own captures and photographs."""

from datamodules.realestate10k.datamodule import RealEstate10kDataModule

__all__ = ["RealEstate10kDataModule"]
