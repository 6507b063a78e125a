"""The data of GAN inversion: samples of a StyleGAN2 generator, of which only a patch is visible."""

from datamodules.ffhq_gan.cache import SampleCache
from datamodules.ffhq_gan.datamodule import FFHQGANDataModule
from datamodules.ffhq_gan.samples import ImageGenerator

__all__ = ["FFHQGANDataModule", "ImageGenerator", "SampleCache"]
