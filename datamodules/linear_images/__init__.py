"""Images of folders, archives and generators, and linear measurements of them."""

from datamodules.linear_images.datamodule import LinearImagesDataModule
from datamodules.linear_images.sources import DrawnImages, FolderImages, ImageSource, OwnImage, ZippedImages

__all__ = [
    "DrawnImages",
    "FolderImages",
    "ImageSource",
    "LinearImagesDataModule",
    "OwnImage",
    "ZippedImages",
]
