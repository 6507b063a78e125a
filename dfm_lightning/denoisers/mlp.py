"""A denoiser for small problems of any kind: everything flattened into one vector, one network."""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from dfm_lightning.errors import UserError
from dfm_lightning.interfaces import SignalDenoiser
from dfm_lightning.networks.embeddings import embed_smoothly
from dfm_lightning.networks.mlp import LevelMLP
from dfm_lightning.ranges import check_at_least
from dfm_lightning.types import Level, Views, named_tensors

# The share of a network's inputs that may be parameters without a warning, and how few parameters never matter.
_MOST_PARAMETERS, _FEW = 0.5, 100


class Flattened(NamedTuple):
    """Context, its parameters and those of the target, concatenated."""

    known: Float[Tensor, "b n"]


class MLPDenoiser(SignalDenoiser[Tensor | dict[str, Tensor], Any, Flattened]):
    """Predict a signal of one or several tensors with a residual MLP on all known numbers.

    These are the context's observations and parameters, the target's parameters and the noisy target. Their number
    is fixed, so every batch has the same number of context views. Parameters can be one tensor or a NamedTuple of
    tensors. Use it for observations of up to a few thousand numbers; images need a network that knows about
    pixels.

    If most of its inputs are parameters (operators as matrices, masks), it tends to collapse: it ignores both
    observations and predicts the mean signal. A warning says so; see `UNetDenoiser`.

    Args:
        inputs: their number for one scene; the error about a wrong number names the right one.
        signal_shape: shape of one signal, such as [3] or [1, 16, 16]; or shapes by name, such as {flow: [2, 16,
            16], gain: [1]}: then a signal is a dictionary of tensors.
        width: hidden numbers of the network; even.
        depth: its residual blocks.
        smooth_levels: whether the network is told a level by its signal-to-noise ratio, so that its outputs at
            neighbouring levels do not jitter.
        target_views: number of target views that are diffused together.
    """

    def __init__(
        self,
        inputs: int,
        signal_shape: list[int] | dict[str, list[int]],
        width: int = 128,
        depth: int = 3,
        smooth_levels: bool = False,
        target_views: int = 1,
    ) -> None:
        super().__init__()
        check_at_least(1, inputs=inputs, target_views=target_views)
        self.target_views = target_views
        for shape in signal_shape.values() if isinstance(signal_shape, dict) else [signal_shape]:
            check_at_least(1, signal_shape=shape)
        self.inputs = inputs
        self._warned = False
        self.signal_shape = signal_shape
        shapes = signal_shape.values() if isinstance(signal_shape, dict) else [signal_shape]
        self.sizes = [math.prod(shape) for shape in shapes]
        self.network = LevelMLP(inputs, sum(self.sizes), width, depth)
        if smooth_levels:
            embed_smoothly(self.network)

    def condition(self, context: Views, target_params: Any) -> Flattened:
        """See `SignalDenoiser`."""
        params = [tensor for _, tensor in named_tensors((context.params, target_params), "params")]
        tensors, dtype = [context.observation, *params], context.observation.dtype
        if self.training and not self._warned:
            self._warned = True
            self._warn_of_parameters(sum(tensor[0].numel() for tensor in params))
        return Flattened(torch.cat([tensor.flatten(1).to(dtype) for tensor in tensors], dim=1))

    def _warn_of_parameters(self, numbers: int) -> None:
        if numbers > max(_FEW, _MOST_PARAMETERS * self.inputs):
            rank_zero_warn(
                f"{numbers} of the {self.inputs} inputs of MLPDenoiser are parameters: it then tends to "
                "ignore the observations (its samples of a scene are alike, and do not fit the context). For "
                "signals on a grid take UNetDenoiser or DiTDenoiser, which are given observations through the "
                "forward model"
            )

    def forward(
        self, noisy: Float[Tensor, "b v c h w"], level: Level, conditioning: Flattened
    ) -> Float[Tensor, "b *signal"] | dict[str, Tensor]:
        """See `SignalDenoiser`."""
        known, seen = conditioning.known, noisy.flatten(1)
        given = known.shape[1] + seen.shape[1]
        if given != self.inputs:
            raise UserError(
                f"MLPDenoiser has inputs={self.inputs}, but a scene comes with {given} numbers "
                f"({known.shape[1]} of context and parameters, {seen.shape[1]} of the noisy target): "
                f"set inputs to {given}"
            )
        numbers = self.network(torch.cat([known, seen], dim=1), level)
        if not isinstance(self.signal_shape, dict):
            return numbers.unflatten(1, self.signal_shape)
        parts = zip(self.signal_shape.items(), numbers.split(self.sizes, dim=1), strict=True)
        return {name: part.unflatten(1, shape) for (name, shape), part in parts}
