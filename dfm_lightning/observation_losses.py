"""One evaluation of the denoiser in training, and how far what it predicts is from what was observed."""

from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.interfaces import ForwardModel, check_observed
from dfm_lightning.types import Batch, Level, Observed, Views, at_least_float32


class DenoisedBatch(NamedTuple):
    """One evaluation of the denoiser in training, as regularisers see it.

    `compared` are the target views followed by the novel ones (after subsampling), `observed` the signal
    observed under the same parameters, `conditioning` what the denoiser made of the context, which may have
    been dropped. `weight` is that of each number that is compared, if not all have the same: where targets were
    measured with noise, `compared` holds targets that are corrected for it (see `diffusion.measured_targets`).
    """

    batch: Batch
    level: Level
    conditioning: Any
    signal: Any
    compared: Views
    observed: Observed
    context_dropped: bool = False
    weight: Tensor | None = None


class Teaching(Protocol):
    """A teacher that takes the place of the data in training: it gives other levels and other observations.

    `temperature` is a factor on the noise of training, as sampling has one on its initial noise.
    """

    temperature: float

    def levels(self, batch: int, device: torch.device) -> Level:
        """Draw the levels of a training batch."""
        ...

    def taught(self, batch: Batch, noisy: Float[Tensor, "b v c h w"], level: Level) -> Batch:
        """Return the batch with what is to be predicted, given its target noised at these levels."""
        ...


def squared_errors(observed: Tensor, true: Tensor, weight: Tensor | None = None) -> Float[Tensor, "b v"]:
    """Compute the mean squared error of each view, in float32 at least; weighted number by number."""
    errors = (observed.to(at_least_float32(observed)) - true).square()
    return (errors if weight is None else weight * errors).flatten(2).mean(dim=2)


def context_error(forward_model: ForwardModel, denoised: DenoisedBatch) -> Float[Tensor, ""]:
    """Compute the mean squared error of the signal observed under the context's own parameters.

    Raises:
        UserError: the context is not an observation of the forward model.
    """
    compared = forward_model.subsample(denoised.batch.context)
    observed = forward_model.observe(denoised.signal, compared.params).observation
    check_observed(observed, compared.observation, "context")
    return squared_errors(observed, compared.observation).mean()
