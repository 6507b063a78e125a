"""The denoiser of linear inverse problems: an hourglass transformer that is given the operator (InvFusion)."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.linear import one_a_view
from dfm_lightning.forward_models.linear.observation import Sensing
from dfm_lightning.forward_models.linear.operator import LinearOperator
from dfm_lightning.held_process import HeldProcess
from dfm_lightning.interfaces import Noising, SignalDenoiser
from dfm_lightning.networks.hourglass import Hourglass, Level, Measured
from dfm_lightning.networks.hourglass.layers import Split
from dfm_lightning.ranges import Number, check_above, check_at_least, check_below_one
from dfm_lightning.types import Level as NoiseLevel
from dfm_lightning.types import Views, at_least_float32

Targets = Literal["images", "measurements"]


class OperatorConditioning(NamedTuple):
    """The conditioning of images: measurements, A†y (zeros if unknown), classes, the targets' operators."""

    measured: Measured
    back: Float[Tensor, "b c h w"]
    label: Int[Tensor, " b"]
    target: LinearOperator


class Preconditioning(NamedTuple):
    """EDM's factors for states x + t z (Karras et al. 2022, table 1), shaped to multiply images."""

    skip: Float[Tensor, "b 1 1 1"]
    out: Float[Tensor, "b 1 1 1"]
    into: Float[Tensor, "b 1 1 1"]
    noise: Float[Tensor, " b"]


def edm_preconditioning(t: Float[Tensor, " b"], data_std: Number) -> Preconditioning:
    """Compute the factors c_skip, c_out, c_in and c_noise at noise levels t."""
    total = t.square() + data_std**2
    skip, out, into = data_std**2 / total, t * data_std / total.sqrt(), total.rsqrt()
    skip, out, into = (part.view(-1, 1, 1, 1) for part in (skip, out, into))
    return Preconditioning(skip, out, into, t.log() / 4)


def edm_weight(t: Float[Tensor, " b"], data_std: Number) -> Float[Tensor, " b"]:
    """Compute EDM's loss weight λ = (t² + σ_data²)/(t σ_data)², which equalises all levels' initial losses."""
    return (t.square() + data_std**2) / (t * data_std).square()


class LogVariance(nn.Module):
    """The learned logarithm u of the loss expected at a noise level (EDM2): λ/eᵘ · loss + u."""

    frequencies: Tensor
    phases: Tensor

    def __init__(self, features: int = 128) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2 * math.pi * torch.randn(features))
        self.register_buffer("phases", 2 * math.pi * torch.rand(features))
        self.linear = nn.Linear(features, 1)
        # At the start u is 0 everywhere: the weights are EDM's.
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, noise: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return u at c_noise."""
        waves = (noise[:, None].to(self.frequencies.dtype) * self.frequencies + self.phases).cos()
        return self.linear(waves * math.sqrt(2))[:, 0]


class OperatorDenoiser(SignalDenoiser[Tensor, Sensing, OperatorConditioning]):
    """Predict images from noisy ones and measurements, by an hourglass transformer with EDM's preconditioning.

    One network serves as three models: InvFusion, whose levels contain the operator (`joint`) in addition to A†y;
    Palette, which is given A†y alone; and the unconditional one, which is given neither. A signal is an image [b c
    h w].

    Trained on `targets: measurements` it is operator-aware DFM: the noised quantity is the part of an image that
    an operator sees (`Projection`), the levels contain that operator too, and the image is only reached through
    it. The part that the target's operator does not see is predicted without skip connection, since the noisy
    target holds nothing of it.

    Args:
        channels: of the images.
        patch: side of the first level's patches.
        depths: blocks of each level, from the finest to the coarsest.
        widths: of each level.
        windows: side of each level's attention windows, in tokens; 0 for global attention.
        joint: which levels contain the operator; none if empty.
        backprojection: whether the network is given A†y beside the noisy image.
        targets: what is noised: images, or measurements as images.
        directions: number of principal directions of the posterior that a separate head predicts; 0 for none.
        classes: number of image classes; 0 for none.
        data_std: standard deviation of the images' values.
        head_width: of the attention's heads.
        mapping_width: of the network that computes the condition.
        dropout: of attention and feed-forward.
        checkpointing: recompute activations in the backward pass, to save memory.
    """

    without_effect = frozenset({"dropout", "checkpointing"})

    def __init__(
        self,
        channels: int = 3,
        patch: int = 2,
        depths: Sequence[int] = (2, 2, 8),
        widths: Sequence[int] = (384, 768, 1536),
        windows: Sequence[int] = (7, 7, 0),
        joint: Sequence[bool] = (True, True, True),
        backprojection: bool = True,
        targets: Targets = "images",
        directions: int = 0,
        classes: int = 0,
        data_std: Number = 0.5,
        head_width: int = 64,
        mapping_width: int = 256,
        dropout: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_below_one(dropout=dropout)
        check_at_least(
            1, channels=channels, patch=patch, depths=depths, widths=widths, mapping_width=mapping_width
        )
        check_at_least(1, head_width=head_width)
        check_at_least(0, windows=windows, directions=directions, classes=classes)
        check_above(0, data_std=data_std)
        joint = list(joint) or [False] * len(depths)
        if not len(depths) == len(widths) == len(windows) == len(joint):
            raise ValueError(
                "depths, widths, windows and joint list one value a level each, got "
                f"{len(depths)}, {len(widths)}, {len(windows)} and {len(joint)}"
            )
        self.channels = channels
        self.backprojection = backprojection
        self.targets = targets
        self.data_std = data_std
        self.directions = directions
        self.classes = classes
        levels = [Level(*level) for level in zip(depths, widths, windows, joint, strict=True)]
        lossy = targets == "measurements"
        self.network = Hourglass(
            inputs=channels * (2 if backprojection else 1),
            outputs=channels,
            channels=channels,
            patch=patch,
            levels=levels,
            head_width=head_width,
            mapping_width=mapping_width,
            dropout=dropout,
            classes=classes,
            roles=(2 if lossy else 1) if any(joint) else 0,
            checkpointing=checkpointing,
        )
        self.log_variance = LogVariance()
        self.direction_head = Split(widths[0], channels * directions, patch) if directions else None
        self._held = HeldProcess()

    @property
    def is_operator_aware(self) -> bool:
        """Tell whether any level contains the operator."""
        return self.network.roles > 0

    def use_process(self, process: Noising) -> None:
        """See `SignalDenoiser`: noise levels are told by the process's rates."""
        self._held.hold(process)

    def condition(self, context: Views, target_params: Sensing) -> OperatorConditioning:
        """See `SignalDenoiser`."""
        if context.observation.shape[1] != 1:
            raise UserError(f"expected one measurement of each image, got {context.observation.shape[1]}")
        params, measurement = context.params, context.observation[:, 0]
        operator = one_a_view(params.operator)
        self._check_size(operator)
        present = torch.isfinite(params.noise[:, 0])
        back = torch.where(present.view(-1, 1, 1, 1), operator.pseudo_inverse(measurement), 0.0)
        measured = Measured(operator, measurement, present.to(measurement.dtype))
        target = one_a_view(target_params.operator)
        return OperatorConditioning(measured, back.to(measurement.dtype), params.label[:, 0], target)

    def forward(
        self, noisy: Float[Tensor, "b 1 c h w"], level: NoiseLevel, conditioning: OperatorConditioning
    ) -> Float[Tensor, "b c h w"]:
        """See `SignalDenoiser`: the image."""
        return self.evaluate(noisy, level, conditioning)[0]

    def evaluate(
        self, noisy: Float[Tensor, "b 1 c h w"], level: NoiseLevel, conditioning: OperatorConditioning
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b k c h w"]]:
        """Return the image, and the principal directions of that estimate's error (if any)."""
        state, t = self._state(noisy[:, 0], level)
        factors = edm_preconditioning(t, self.data_std)
        scaled = (factors.into * state).to(noisy.dtype)
        given = [scaled, conditioning.back.to(noisy.dtype)] if self.backprojection else [scaled]
        measured = [conditioning.measured]
        if self.targets == "measurements":
            measured.append(Measured(conditioning.target, scaled, torch.ones_like(conditioning.measured.present)))
        raw, features = self.network(
            torch.cat(given, dim=1),
            factors.noise.to(noisy.dtype),
            measured[: self.network.roles],
            conditioning.label if self.classes else None,
        )
        raw = raw.to(at_least_float32(raw))
        image = factors.skip * state + factors.out * raw
        if self.targets == "measurements":
            # The unseen part of the target: a prediction of unit variance, as in EDM at the highest noise.
            image = self.data_std * raw + conditioning.target.apply(image - self.data_std * raw)
        return image.to(noisy.dtype), self._directions(features)

    def noise_of(self, level: NoiseLevel) -> Float[Tensor, " b"]:
        """Return the noise t = σ/α at levels of the process."""
        like = torch.zeros(len(level), 1, device=level.device)
        signal_rate, noise_rate = self._held.process.rates(level, like)
        return (noise_rate / signal_rate)[:, 0]

    def loss_variance(self, level: NoiseLevel) -> Float[Tensor, " b"]:
        """Return u, the logarithm of the weighted loss expected at levels."""
        return self.log_variance(self.noise_of(level).log() / 4)

    def drop_context(self, context: Views) -> Views:
        """See `SignalDenoiser`: a model with classes drops the class, another the measurement."""
        params = context.params
        if self.classes:
            return context._replace(params=params._replace(label=torch.full_like(params.label, -1)))
        nothing = params._replace(noise=torch.full_like(params.noise, math.inf))
        return Views(torch.zeros_like(context.observation), nothing)

    def _check_size(self, operator: LinearOperator) -> None:
        """Raise `UserError` if the network cannot take the images that an operator measures."""
        (channels, *sides), multiple = operator.image_shape, self.network.reduction
        if channels != self.channels or any(side % multiple for side in sides):
            raise UserError(
                f"{type(operator).__name__} measures images of shape {operator.image_shape}; this network takes "
                f"{self.channels} channels, and heights and widths that are multiples of {multiple}"
            )

    def _state(self, noisy: Tensor, level: NoiseLevel) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, " b"]]:
        """Return the noisy image as x + t z, and t, for any process and any scaling of the denoiser's input."""
        process, precise = self._held.process, noisy.to(at_least_float32(noisy))
        t = self.noise_of(level).to(precise.dtype)
        ones = torch.ones_like(precise[:, :1, :1, :1])
        scaling, _ = process.denoiser_input(ones, level)
        signal_rate, _ = process.rates(level, ones)
        return precise / (scaling * signal_rate).to(precise.dtype), t

    def _directions(self, features: Float[Tensor, "b i j d"]) -> Float[Tensor, "b k c h w"]:
        if self.direction_head is None:
            height, width = (side * self.network.patch for side in features.shape[1:3])
            return features.new_zeros(len(features), 0, self.channels, height, width)
        return self.direction_head(features).movedim(-1, 1).unflatten(1, (self.directions, self.channels))
