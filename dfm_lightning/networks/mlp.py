"""A small network for vectors, conditioned on the diffusion level."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.networks.embeddings import LevelSinusoids
from dfm_lightning.ranges import check_at_least
from dfm_lightning.types import Level


class GatedBlock(nn.Module):
    """x + A (silu(B x) · C x): a residual block with a gated linear unit (Shazeer 2020, "SwiGLU")."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, hidden: Float[Tensor, "b width"]) -> Float[Tensor, "b width"]:
        """Compute the block's output, of the same shape."""
        return hidden + self.output(F.silu(self.gate(hidden)) * self.value(hidden))


class LevelMLP(nn.Module):
    """A residual MLP from a vector and a diffusion level to a vector.

    Gated blocks easily form products of their inputs, which posteriors are full of.

    Args:
        inputs: numbers in the input vector.
        outputs: numbers in the output vector.
        width: hidden numbers, and sinusoids of the level; even.
        depth: number of gated blocks.
    """

    def __init__(self, inputs: int, outputs: int, width: int = 128, depth: int = 2) -> None:
        super().__init__()
        check_at_least(1, inputs=inputs, outputs=outputs, width=width, depth=depth)
        self.sinusoids = LevelSinusoids(width)
        self.values_in = nn.Linear(inputs, width)
        self.level_in = nn.Linear(width, width)
        self.blocks = nn.Sequential(*[GatedBlock(width) for _ in range(depth)])
        self.out = nn.Linear(width, outputs)

    def forward(self, values: Float[Tensor, "b inputs"], level: Level) -> Float[Tensor, "b outputs"]:
        """Compute the output vector of each element of the batch at its level."""
        waves = self.sinusoids(level, values.dtype)
        return self.out(F.silu(self.blocks(self.values_in(values) + self.level_in(waves))))
