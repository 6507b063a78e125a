"""The U-Net of SparseFusion's view-conditioned latent diffusion, in the manner of Imagen's."""

from dfm_lightning.networks.latent_unet.unet import LatentUNet

__all__ = ["LatentUNet"]
