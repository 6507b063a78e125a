"""Samples of a StyleGAN2 generator of which only a patch is seen: the data of GAN inversion."""

from datamodules.ffhq_gan.cache import SampleCache
from datamodules.ffhq_gan.datamodule import FFHQGANDataModule
from datamodules.ffhq_gan.samples import ImageGenerator

__all__ = ["FFHQGANDataModule", "ImageGenerator", "SampleCache"]
