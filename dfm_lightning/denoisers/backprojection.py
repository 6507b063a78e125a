"""Denoisers whose inputs are observations mapped back to signals by the derivative of the forward model."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfm_lightning.denoisers.taken_back import taken_back
from dfm_lightning.held_process import HeldProcess
from dfm_lightning.interfaces import ForwardModel, Noising, SignalDenoiser
from dfm_lightning.networks.dit import LevelEmbedding
from dfm_lightning.networks.image_dit import ImageToImage
from dfm_lightning.networks.unet import UNet
from dfm_lightning.ranges import Number, check_at_least
from dfm_lightning.types import Level, Views


class Backprojected(NamedTuple):
    """Context and parameters, and the context's observations mapped back at the reference signal."""

    context: Views
    target_params: Any
    back: Float[Tensor, "b *k"]


class BackprojectionDenoiser(SignalDenoiser[Tensor, Any, Backprojected]):
    """Predicts a signal on a grid from observations that are mapped back to that grid.

    For an observation O the network's input is t Jᵀ(O − α forward(S, φ)): the gradient of half the squared
    residual at a signal S, where J is the derivative. (The factor α is the noisy target's signal rate, and 1 for
    the context.) t is the step to the minimum along the gradient, so that all inputs are of the signal's scale.
    For a linear operator and S = 0 this is the adjoint. The network therefore does not depend on the parameters'
    form, and works for operators that it has never met. Derivatives are taken by automatic differentiation.

    Args:
        signal_shape: channels, then the sides of the grid.
        stages: number of networks in sequence; the input of each is the signal that the one before it predicted,
            and the observations mapped back there. Use 2 or more for forward models that are not linear.
        linearised_at: standard deviation of a fixed random signal at which observations are first mapped back;
            above 0 for forward models whose derivative vanishes at a signal of zeros.
        inversion_steps: steps of conjugate gradients that take an observation back; the network is given the
            result of each. The first is the gradient above. With a few more (6, say) the network sees what the
            operator does, and need not learn to invert it.
    """

    reference: Tensor

    def __init__(
        self,
        signal_shape: Sequence[int],
        stages: int = 1,
        linearised_at: Number = 0.0,
        inversion_steps: int = 1,
    ) -> None:
        super().__init__()
        check_at_least(1, signal_shape=signal_shape, stages=stages, inversion_steps=inversion_steps)
        check_at_least(0, linearised_at=linearised_at)
        self.signal_shape = tuple(signal_shape)
        self.register_buffer("reference", float(linearised_at) * torch.randn(self.signal_shape))
        self.inversion_steps = inversion_steps
        channels = self.signal_shape[0]
        inputs = channels * (1 + 2 * inversion_steps)
        self.networks = nn.ModuleList(self.make_network(inputs, channels) for _ in range(stages))
        self._held = HeldProcess()
        # In a tuple, where torch does not look for modules: it is the model's.
        self._forward_model: tuple[ForwardModel, ...] = ()

    @abstractmethod
    def make_network(self, inputs: int, outputs: int) -> nn.Module:
        """Make a network from channels [b inputs *s] on the grid and levels [b] to channels [b outputs *s]."""

    def use_process(self, process: Noising) -> None:
        """See `SignalDenoiser`."""
        super().use_process(process)
        self._held.hold(process)

    def use_forward_model(self, forward_model: ForwardModel) -> None:
        """See `SignalDenoiser`: what takes observations back."""
        self._forward_model = (forward_model,)

    def condition(self, context: Views, target_params: Any) -> Backprojected:
        """See `SignalDenoiser`."""
        back = self._back(self._start(context.observation), context.params, context.observation)
        return Backprojected(context, target_params, back)

    def forward(
        self, noisy: Float[Tensor, "b 1 *o"], level: Level, conditioning: Backprojected
    ) -> Float[Tensor, "b *s"]:
        """See `SignalDenoiser`: the signal."""
        process = self._held.process
        signal_rate, _ = process.rates(level, noisy)
        # The factor of the noisy target, if the process scales it for denoisers.
        scale, _ = process.denoiser_input(torch.ones_like(noisy[:, :1]), level)
        factor = (signal_rate * scale).to(noisy.dtype)
        context = conditioning.context
        signal = self._start(noisy)
        for number, network in enumerate(self.networks):
            of_context = (
                conditioning.back if number == 0 else self._back(signal, context.params, context.observation)
            )
            of_target = self._back(signal, conditioning.target_params, noisy, factor)
            signal = network(torch.cat([signal, of_context, of_target], dim=1), level)
        return signal

    def _start(self, like: Tensor) -> Float[Tensor, "b *s"]:
        return self.reference.to(like.dtype).expand(len(like), *self.reference.shape)

    def _back(
        self,
        signal: Float[Tensor, "b *s"],
        params: Any,
        observation: Float[Tensor, "b v *o"],
        factor: Tensor | None = None,
    ) -> Float[Tensor, "b *k"]:
        """Map observations back at a signal: the result of each step, beside each other."""
        arguments = (signal, params, observation, 1.0 if factor is None else factor, self.inversion_steps)
        return torch.cat(taken_back(self._forward_model[0], *arguments), dim=1)


class UNetDenoiser(BackprojectionDenoiser):
    """Predict images [c h w] or curves [c n] by a convolutional U-Net from observations mapped back.

    Args:
        signal_shape: channels, then height and width of an image, or the length of a curve.
        widths: channels at each resolution, the full one first, each half of the one before along every side;
            multiples of 8. The sides are to be multiples of 2^(number of widths − 1).
        level_width: length of the vector that tells the diffusion level.
        stages: see `BackprojectionDenoiser`.
        linearised_at: see `BackprojectionDenoiser`.
        inversion_steps: see `BackprojectionDenoiser`.
    """

    def __init__(
        self,
        signal_shape: list[int],
        widths: Sequence[int] = (32, 64, 64),
        level_width: int = 128,
        stages: int = 1,
        linearised_at: Number = 0.0,
        inversion_steps: int = 1,
    ) -> None:
        check_at_least(1, widths=widths, level_width=level_width)
        if len(signal_shape) not in (2, 3):
            raise ValueError(f"signal_shape must be [c, h, w] or [c, n], got {list(signal_shape)}")
        if any(side % 2 ** (len(widths) - 1) for side in signal_shape[1:]):
            raise ValueError(
                f"the sides in signal_shape must be multiples of {2 ** (len(widths) - 1)} for {len(widths)} "
                f"widths, got {list(signal_shape)}"
            )
        self.widths = tuple(widths)
        self.level_width = level_width
        self._dimensions = len(signal_shape) - 1
        super().__init__(signal_shape, stages, linearised_at, inversion_steps)

    def make_network(self, inputs: int, outputs: int) -> nn.Module:
        """See `BackprojectionDenoiser`."""
        unet = UNet(1 if self._dimensions == 1 else 2, inputs, outputs, list(self.widths), self.level_width)
        return _AtLevel(LevelEmbedding(self.level_width), unet)


class DiTDenoiser(BackprojectionDenoiser):
    """Predict images [c h w] by a diffusion transformer from observations mapped back.

    Args:
        signal_shape: channels, height and width; multiples of `patch`.
        width: length of a token.
        depth: transformer blocks.
        heads: attention heads; divides the width.
        patch: side of the square of pixels that is one token.
        stages: see `BackprojectionDenoiser`.
        linearised_at: see `BackprojectionDenoiser`.
        inversion_steps: see `BackprojectionDenoiser`.
    """

    def __init__(
        self,
        signal_shape: list[int],
        width: int = 256,
        depth: int = 6,
        heads: int = 4,
        patch: int = 4,
        stages: int = 1,
        linearised_at: Number = 0.0,
        inversion_steps: int = 1,
    ) -> None:
        check_at_least(1, width=width, depth=depth, heads=heads, patch=patch)
        if len(signal_shape) != 3 or any(side % patch for side in signal_shape[1:]):
            raise ValueError(
                f"signal_shape must be [c, h, w] with sides that are multiples of patch {patch}, "
                f"got {list(signal_shape)}"
            )
        self.width, self.depth, self.heads, self.patch = width, depth, heads, patch
        super().__init__(signal_shape, stages, linearised_at, inversion_steps)

    def make_network(self, inputs: int, outputs: int) -> nn.Module:
        """See `BackprojectionDenoiser`."""
        return ImageToImage(inputs, outputs, self.width, self.depth, self.heads, self.patch)


class _AtLevel(nn.Module):
    """A U-Net that is told the diffusion level."""

    def __init__(self, level: LevelEmbedding, network: UNet) -> None:
        super().__init__()
        self.level = level
        self.network = network

    def forward(self, x: Float[Tensor, "b i *s"], level: Level) -> Float[Tensor, "b o *s"]:
        return self.network(x, self.level(level))
