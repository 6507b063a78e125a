"""Fixed embeddings of positions, diffusion levels and camera poses as vectors for networks."""

import math
import operator
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float, Real
from torch import Tensor, nn

from dfm_lightning.held_process import HeldProcess
from dfm_lightning.interfaces import Noising

SinusoidOrder = Literal["cosine_first", "sine_first"]


def position_embedding_2d(
    rows: int, columns: int, width: int, like: Float[Tensor, "..."], grid: int | None = None
) -> Float[Tensor, "n width"]:
    """Embed each cell of a grid (row by row): sines and cosines of the x index, then of the y index.

    Each axis gets `width / 2` numbers: sines, then cosines, of frequencies 10,000^(−i / (width / 4)), computed in
    float64 (as in MAE and DiT, where the first half is the x axis), returned with dtype and device of `like`.

    With `grid`, positions are those of a grid of that many rows and columns over the same image: a finer or
    coarser one gets the embedding of that grid resized. No interpolation is needed, since sinusoids are defined
    between cells as well. Centres of cells correspond, as in resizing without aligned corners.

    Recent embeddings are cached, so the same tensor is returned again: do not change it.

    Raises:
        ValueError: `width` is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"a 2D position embedding needs a width that is a multiple of 4, got {width}")
    # (`index` turns a compiler's symbols for dynamic sizes into numbers.)
    return _constant_embedding(operator.index(rows), operator.index(columns), width, grid, like.dtype, like.device)


@torch.compiler.assume_constant_result
def _constant_embedding(
    rows: int, columns: int, width: int, grid: int | None, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "n width"]:
    """See `position_embedding_2d`. A separate function, since a compiler looks through a cache."""
    return _kept_embedding(rows, columns, width, grid, dtype, device)


@lru_cache(maxsize=16)
def _kept_embedding(
    rows: int, columns: int, width: int, grid: int | None, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "n width"]:
    # A tensor made in inference mode could not be used in training afterwards. On the CPU first: not every device
    # knows float64.
    with torch.inference_mode(False), torch.no_grad():
        index = torch.arange(max(rows, columns), dtype=torch.float64, device="cpu")
        axes = [index[:count] if grid is None else _resized(index[:count], grid) for count in (rows, columns)]
        y, x = torch.meshgrid(*axes, indexing="ij")
        frequencies = 10_000.0 ** -(torch.arange(width // 4, dtype=torch.float64, device="cpu") / (width / 4))
        angles = [axis.reshape(-1, 1) * frequencies for axis in (x, y)]
        embedding = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
        return embedding.to(device=device, dtype=dtype)


def _resized(index: Float[Tensor, " n"], grid: int) -> Float[Tensor, " n"]:
    """Return the positions of the centres of n cells among the indices of `grid` cells over the same length."""
    return (index + 0.5) * grid / len(index) - 0.5


def level_sinusoids(
    level: Real[Tensor, "*b"], width: int, order: SinusoidOrder, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*b width"]:
    """Embed diffusion levels as sinusoids, with periods from 2π up to about 10,000 times that.

    Two conventions exist. "cosine_first" (GLIDE, DiT): cosines then sines, frequencies 10,000^(−i/half).
    "sine_first" (Transformer, DDPM): sines then cosines, frequencies 10,000^(−i/(half − 1)).

    The computation is in float32 at least, the result in the requested dtype: bfloat16 is exact for whole numbers
    up to 256 only.
    """
    half = width // 2
    steps = half if order == "cosine_first" else half - 1
    exact = torch.promote_types(dtype, torch.float32)
    index = torch.arange(half, dtype=exact, device=level.device)
    angles = level[..., None].to(exact) * torch.exp(index * (-math.log(10_000) / steps))
    waves = (angles.cos(), angles.sin()) if order == "cosine_first" else (angles.sin(), angles.cos())
    return torch.cat(waves, dim=-1).to(dtype)


def ratio_sinusoids(
    signal_rate: Float[Tensor, "*b"], noise_rate: Float[Tensor, "*b"], width: int
) -> Float[Tensor, "*b width"]:
    """Embed the logarithm of the signal-to-noise ratio α²/σ²: sines, then cosines, at frequencies e^−3 to e^1.

    The embedding is smooth: neighbouring levels have neighbouring embeddings. Rates count as at least 1e-4.
    """
    ratio = 2 * (signal_rate.clamp(min=1e-4).log() - noise_rate.clamp(min=1e-4).log())
    angles = ratio[..., None] * torch.exp(torch.linspace(-3.0, 1.0, width // 2, device=ratio.device))
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class LevelSinusoids(nn.Module):
    """A parameter-free embedding of the diffusion levels that a network is told.

    It embeds the level itself, as `level_sinusoids` does; or, if `smooth` is set (see `embed_smoothly`), its
    signal-to-noise ratio, as `ratio_sinusoids` does. At periods down to 2π levels, the former separates levels
    that hardly differ, so that a network's output jitters.

    Args:
        width: numbers in the embedding; even.
        order: of `level_sinusoids`.
    """

    def __init__(self, width: int, order: SinusoidOrder = "cosine_first") -> None:
        super().__init__()
        self.width = width
        self.order: SinusoidOrder = order
        self.smooth = False
        self._held = HeldProcess()

    def use_process(self, process: Noising) -> None:
        """Store the model's noise process, whose rates a smooth embedding needs.

        Raises:
            UserError: denoisers are told something other than this process's levels.
        """
        self._held.hold(process, "levels are embedded smoothly by their rates" if self.smooth else None)

    def forward(self, level: Real[Tensor, "*b"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "*b width"]:
        """Embed each level; computed in float32 at least."""
        if not self.smooth:
            return level_sinusoids(level, self.width, self.order, dtype=dtype)
        flat = level.flatten()
        signal, noise = self._held.process.rates(flat, flat.to(torch.promote_types(dtype, torch.float32)))
        return ratio_sinusoids(signal.view(level.shape), noise.view(level.shape), self.width).to(dtype)


def embed_smoothly(network: nn.Module) -> None:
    """Make all parts of a network embed levels by their signal-to-noise ratio."""
    for part in network.modules():
        if isinstance(part, LevelSinusoids):
            part.smooth = True


def harmonic_embedding(values: Float[Tensor, "*b d"], octaves: int = 6) -> Float[Tensor, "*b e"]:
    """Embed values: sines of each at frequencies 1, 2, 4, …, then the cosines, then the values (e = d (2·octaves +
    1)).

    The octaves of one value are adjacent, as in PyTorch3D's `HarmonicEmbedding`.
    """
    frequencies = 2.0 ** torch.arange(octaves, device=values.device, dtype=values.dtype)
    angles = (values[..., None] * frequencies).flatten(-2)
    return torch.cat([angles.sin(), angles.cos(), values], dim=-1)


def positional_encoding(
    points: Float[Tensor, "*b 3"], octaves: int = 6, base_frequency: float = 1.5
) -> Float[Tensor, "*b e"]:
    """Encode points: the points, then for each frequency f = base · 2^k sines and cosines of f x, f y, f z (e = 3
    + 6·octaves).

    Source: pixelNeRF (Yu et al. 2021), section 4; base frequency 1.5.
    """
    frequencies = base_frequency * 2.0 ** torch.arange(octaves, device=points.device, dtype=points.dtype)
    angles = points[..., None, :] * frequencies[:, None]
    waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
    return torch.cat([points, waves.flatten(-2)], dim=-1)
