"""A model whose denoiser is exact: points of a Gaussian mixture, observed as they are."""

import sys
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion import DDIM, Sampler
from dfm_lightning.interfaces import ForwardModel, SignalDenoiser
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.types import Batch, Level, Views

sys.path.insert(0, str(Path(__file__).parents[1] / "diffusion"))

from known_mixture import Mixture, reference

REFERENCE = reference()
MIXTURE = Mixture(*(REFERENCE[name].float() for name in ("weights", "means", "stds")))


class Identity(ForwardModel):
    """O = S."""

    def forward(self, signal: Float[Tensor, "b 3"], params: Float[Tensor, "b v"]) -> Float[Tensor, "b v 3 1 1"]:
        """See `ForwardModel`."""
        return signal[:, None, :, None, None].expand(-1, params.shape[1], -1, -1, -1)


class Exact(SignalDenoiser):
    """E[x₀ | x] of the mixture."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.process: tuple[Any, ...] = ()

    def use_process(self, process: Any) -> None:
        """See `SignalDenoiser`."""
        self.process = (process,)

    def condition(self, context: Views, target_params: Any) -> Any:
        """See `SignalDenoiser`."""
        return context.observation

    def forward(self, noisy: Float[Tensor, "b 1 3 1 1"], level: Level, conditioning: Any) -> Tensor:
        """See `SignalDenoiser`."""
        return MIXTURE.mean_given(noisy.flatten(1), *self.process[0].exact_rates(level[0].item()))


def exact_model(sampler: Sampler | None = None) -> DiffusionWithForwardModel:
    """The model, in evaluation mode."""
    return DiffusionWithForwardModel(Exact(), Identity(), sampler=sampler or DDIM()).eval()


def scenes(number: int) -> list[Batch]:
    """Batches of one scene, which differ by their names and so by their noise."""
    views = Views(torch.zeros(1, 1, 3, 1, 1), torch.zeros(1, 1))
    return [Batch(views, views, views, [f"scene{place}"], {}) for place in range(number)]
