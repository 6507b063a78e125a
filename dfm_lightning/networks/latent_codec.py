"""Autoencoders between images and the latents that are diffused: Stable Diffusion's, and a small one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.errors import UserError
from dfm_lightning.ranges import check_above, check_at_least
from dfm_lightning.record import Recorded

STABLE_DIFFUSION_FILE = "sd-v1-3-vae.ckpt"
# Factor that gives latents made of mean colours about unit variance.
_THUMBNAIL = 1.5


class LatentCodec(Recorded, nn.Module, ABC):
    """Encodes images in [-1, 1] as latents of about unit variance, and decodes them."""

    channels: int
    factor: int

    @abstractmethod
    def encode(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c hl wl"]:
        """Encode images, whose sides are multiples of `factor`; without noise."""

    @abstractmethod
    def decode(self, latents: Float[Tensor, "n c hl wl"]) -> Float[Tensor, "n 3 h w"]:
        """Decode latents to images, not clamped."""

    @property
    def learns(self) -> bool:
        """Tell whether training begins by training this codec."""
        return False


class StableDiffusionCodec(LatentCodec):
    """The autoencoder of Stable Diffusion 1, by diffusers' `AutoencoderKL`: 8 times smaller, 4 channels.

    Its weights come with a converted checkpoint (`dfm convert sparsefusion`).

    Args:
        widths: channels of its levels.
        layers: residual blocks of each level.
        scale: factor on the latents' mode.
    """

    def __init__(
        self, widths: Sequence[int] = (128, 256, 512, 512), layers: int = 2, scale: float = 0.18215
    ) -> None:
        super().__init__()
        check_at_least(1, widths=widths, layers=layers)
        check_above(0, scale=scale)
        try:
            from diffusers import AutoencoderKL
        except ImportError as error:
            raise UserError(
                "StableDiffusionCodec needs diffusers: pip install 'dfm-lightning[sparsefusion]'"
            ) from error
        levels = len(widths)
        self.channels, self.factor, self.scale = 4, 2 ** (levels - 1), scale
        network: Any = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=tuple(widths),
            layers_per_block=layers,
            latent_channels=self.channels,
            sample_size=256,
        )
        self.network = network.requires_grad_(False)

    def encode(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c hl wl"]:
        """See `LatentCodec`: the mode."""
        return self.network.encode(images.clamp(-1, 1)).latent_dist.mode() * self.scale

    def decode(self, latents: Float[Tensor, "n c hl wl"]) -> Float[Tensor, "n 3 h w"]:
        """See `LatentCodec`."""
        return self.network.decode(latents / self.scale).sample


class SmallCodec(LatentCodec):
    """A small convolutional autoencoder, trained at the beginning of a training.

    It begins with a thumbnail: the first three channels of latents are the mean colours of patches, and images are
    decoded to these. Convolutions add corrections to them, so that a short training is enough. Latents are
    bounded to ±3, which keeps them about as large as noise.

    Args:
        channels: of the latents.
        width: channels at the full resolution; doubled at each halving.
        halvings: how often sides are halved.
    """

    def __init__(self, channels: int = 4, width: int = 24, halvings: int = 2) -> None:
        super().__init__()
        check_at_least(1, channels=channels, width=width, halvings=halvings)
        self.channels, self.factor = channels, 2**halvings
        widths = [width * 2**level for level in range(halvings + 1)]
        pairs = list(pairwise(widths))
        down = [part for i, o in pairs for part in (nn.Conv2d(i, o, 4, 2, 1), nn.SiLU(), _Residual(o))]
        up = [
            part
            for i, o in reversed(pairs)
            for part in (_Residual(o), nn.Upsample(scale_factor=2), nn.Conv2d(o, i, 3, 1, 1), nn.SiLU())
        ]
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, 1, 1), nn.SiLU(), *down, nn.Conv2d(widths[-1], channels, 3, 1, 1)
        )
        self.decoder = nn.Sequential(nn.Conv2d(channels, widths[-1], 3, 1, 1), *up, nn.Conv2d(width, 3, 3, 1, 1))
        self.patch_in = nn.Conv2d(3, channels, self.factor, self.factor)
        self.patch_out = nn.ConvTranspose2d(channels, 3, self.factor, self.factor)
        self._begin_with_thumbnail()

    @torch.no_grad()
    def _begin_with_thumbnail(self) -> None:
        for layer in (self.encoder[-1], self.decoder[-1], self.patch_in, self.patch_out):
            for parameter in layer.parameters():
                parameter.zero_()
        for colour in range(min(3, self.channels)):
            self.patch_in.weight[colour, colour] = _THUMBNAIL / self.factor**2
            self.patch_out.weight[colour, colour] = 1 / _THUMBNAIL
        # Further channels begin at random, so that they carry something too.
        nn.init.normal_(self.patch_in.weight[3:], std=_THUMBNAIL / self.factor)

    @property
    def learns(self) -> bool:
        """See `LatentCodec`."""
        return True

    def encode(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c hl wl"]:
        """See `LatentCodec`."""
        images = images.clamp(-1, 1)
        return 3 * torch.tanh((self.encoder(images) + self.patch_in(images)) / 3)

    def decode(self, latents: Float[Tensor, "n c hl wl"]) -> Float[Tensor, "n 3 h w"]:
        """See `LatentCodec`."""
        return self.decoder(latents) + self.patch_out(latents)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, 1, 1)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Add what two convolutions find."""
        return x + self.second(F.silu(self.first(F.silu(x))))
