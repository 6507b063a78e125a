"""The two parts of a stochastic inverse problem: a forward model and a denoiser of signals."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfm_lightning.errors import UserError
from dfm_lightning.record import Recorded
from dfm_lightning.types import Batch, Level, LossTerm, Observed, Request, Views, map_tensors, named_tensors
from dfm_lightning.wording import counted

# A tensor, a NamedTuple of tensors, or anything else that the forward model observes (a radiance field, say).
Signal = TypeVar("Signal")
# Parameters φ of observations: a tensor or a NamedTuple of tensors, with leading dimensions b and v.
Params = TypeVar("Params")
# A NamedTuple of tensors with leading dimension b.
Conditioning = TypeVar("Conditioning")


@runtime_checkable
class Noising(Protocol):
    """The part of a model's noise process (`diffusion.NoiseProcess`) that denoisers may use."""

    def rates(self, level: Level, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rates α and σ of signal and noise at each level, shaped to multiply `like` [b ...]."""
        ...

    def training_levels(self, batch: int, generator: torch.Generator | None = None) -> Level:
        """Draw the levels of a training batch."""
        ...

    def denoiser_input(self, noisy: Tensor, level: Level) -> tuple[Tensor, Level]:
        """Return the denoiser's input for a noisy observation and its level."""
        ...

    def add_noise(self, clean: Tensor, noise: Tensor, level: Level) -> Tensor:
        """Return the noisy observation at a level."""
        ...


class ForwardModel(Recorded, nn.Module, ABC, Generic[Signal, Params]):
    """A map from a signal S and the parameters φ of observations to the observations O (DFM eq. 5).

    Type checkers can be told the types of both: `class VolumeRendering(ForwardModel[RadianceField, Cameras])`.

    It is differentiable in the signal, and a function of its inputs alone. A subclass implements `forward`; if its
    losses need more than the observation (depth, weights, holes), it overrides `observe` and lets `forward` return
    the first part.
    """

    # Arguments that decide what the weights mean: a checkpoint's values hold, whatever the config says.
    fixed_by_checkpoint: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def forward(self, signal: Signal, params: Params) -> Float[Tensor, "b v c h w"]:
        """Observe each signal of the batch under each of its `v` parameters."""

    def observe(self, signal: Signal, params: Params) -> Observed:
        """Observe like `forward`, and return intermediate results as well."""
        return Observed(self(signal, params), ())

    def while_noisy(self) -> "ForwardModel[Signal, Params]":
        """Return what observes signals in evaluations of the denoiser on more noise than signal: this one, or a
        quicker one that is less exact.
        """
        return self

    def in_run(self) -> "ForwardModel[Signal, Params]":
        """Return what observes the successive signals of one sampling run, under the same parameters each time.

        This one, or one that reuses what it has found for earlier signals, which is quicker and less exact.
        """
        return self

    def target_size(self, context: Views) -> tuple[int, ...]:
        """Return the shape (c, h, w) of a target observation: the context's, unless the two are of different
        kinds.
        """
        return tuple(context.observation.shape[2:])

    def subsample(self, views: Views) -> Views:
        """Select the part of the views that a training step compares: everything, unless that is too expensive."""
        return views

    def operator_norm(self, params: Params) -> Float[Tensor, " b"] | None:
        """Return the largest singular value of the map from a signal to all its `v` observations; None if unknown.

        Implement this for forward models that are linear in the signal: context guidance derives its step sizes
        from it.
        """
        return None

    def noise_deviation(self, params: Params) -> Tensor | None:
        """Return the standard deviation of the noise in observations made under φ; None if they have none.

        The noise is normal and independent in each number; the shape broadcasts to the observations [b v c h w];
        infinite where nothing is measured. It is the noise in the data; `forward` adds none. Training, sampling,
        context guidance and test use it (docs/adding_a_problem.md says what for).
        """
        return None


class SignalDenoiser(Recorded, nn.Module, ABC, Generic[Signal, Params, Conditioning]):
    """A predictor of the clean signal from a noisy target observation and clean context (DFM eq. 4).

    It is split in two so that sampling is fast: `condition` runs once for a whole sampling run, `forward` at each
    step. Everything that does not depend on the noisy observation belongs in `condition`.

    `target_views` is the number of target views diffused together. A denoiser that allows several sets it.
    """

    target_views: int = 1
    # Arguments that belong to sampling: they are as each run says, while a checkpoint decides the others.
    decided_by_run: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def condition(self, context: Views, target_params: Params) -> Conditioning:
        """Process context and target parameters into a NamedTuple of tensors with leading dimension b."""

    @abstractmethod
    def forward(self, noisy: Float[Tensor, "b v c h w"], level: Level, conditioning: Conditioning) -> Signal:
        """Predict the signal from the noisy target observation, its diffusion level and the conditioning."""

    def use_process(self, process: Noising) -> None:
        """Take what is needed from the model's noise process; called once.

        This implementation passes it to all parts that have a method of this name, such as those that embed levels
        smoothly.
        """
        for part in self.modules():
            tell = getattr(part, "use_process", None)
            if part is not self and callable(tell):
                tell(process)

    def use_forward_model(self, forward_model: ForwardModel) -> None:
        """Take the conventions shared with the model's forward model; called once."""

    def check_taught(self) -> None:
        """Raise `UserError` if a setting presupposes that targets are clean: a teacher's are not."""

    def remembering(self) -> Callable[[Signal], Signal]:
        """Return a function that prepares signals of one sampling run to be observed under the same parameters.

        What it gives is observed as the signal itself would be, up to rounding, and may be quicker from the second
        signal on. Here it gives the signal.
        """
        return lambda signal: signal

    def auxiliary_losses(
        self, batch: Batch, level: Level, conditioning: Conditioning, signal: Signal
    ) -> dict[str, LossTerm]:
        """Compute the denoiser's own losses in training, by name, besides those of the signal's observations.

        The arguments are the inputs and outputs of one evaluation: the batch, the target's diffusion levels, the
        conditioning, the signal.
        """
        return {}

    def drop_context(self, context: Views) -> Views:
        """Return the context of an unconditional model: observations of zeros, with their parameters kept."""
        return context._replace(observation=torch.zeros_like(context.observation))

    def split_batch(self, signals: Signal) -> tuple[Signal, Signal]:
        """Return the two halves of a batch of signals; here for signals that are trees of tensors."""
        first = map_tensors(lambda tensor: tensor.chunk(2)[0], signals)
        second = map_tensors(lambda tensor: tensor.chunk(2)[1], signals)
        return first, second

    def guide(self, unconditional: Signal, conditional: Signal, scale: float) -> Signal:
        """Guide signals without a classifier, u + scale (c − u); here for signals that are trees of tensors.

        Override this for a signal of another kind (a radiance field, say).
        """
        return map_tensors(lambda u, c: u + scale * (c - u), unconditional, conditional)


def check_kind(batch: object, expected: type[Batch] | type[Request]) -> None:
    """Raise `UserError` if a data loader yields another type than a step needs, or keys that are not strings."""
    if not isinstance(batch, expected):
        loader = "predict_dataloader" if expected is Request else "a data loader of fit, validate or test"
        raise UserError(f"{loader} must give a {expected.__name__}, but gave a {type(batch).__name__}")
    wrong = next((key for key in batch.key if not isinstance(key, str)), None)
    if wrong is not None:
        raise UserError(
            f"the key of a scene is a string, as in key=str(number), but it is a {type(wrong).__name__}"
        )


def check_batch(batch: Batch, targets: int = 1) -> None:
    """Raise `UserError` if a batch does not fit the description of `Batch`, or has another number of targets."""
    scenes = len(batch.key)
    for role in ("context", "target", "novel"):
        _check_views(getattr(batch, role), role, scenes)
    given = batch.target.observation.shape[1]
    if given != targets:
        raise UserError(
            f"the denoiser takes {counted(targets, 'target view')}, but target.observation has {given} "
            "(see `target_views` of the denoiser, if it has this setting)"
        )


def check_targets(target_params: Any, targets: int) -> None:
    """Raise `UserError` if a request has fewer views than are diffused together."""
    for name, tensor in named_tensors(target_params, "params"):
        if tensor.shape[1] < targets:
            raise UserError(
                f"the denoiser diffuses {targets} target views together, the first of a request, but {name} has "
                f"{tensor.shape[1]}"
            )


def check_request(request: Request) -> None:
    """Raise `UserError` if a request does not fit the description of `Request`."""
    _check_views(request.context, "context", len(request.key))
    for name, tensor in named_tensors(request.params, "params"):
        if tensor.ndim < 2 or len(tensor) != len(request.key) or tensor.shape[1] < 1:
            expected = f"{counted(len(request.key), 'scene')}, then 1 or more views"
            raise UserError(f"{name} has shape {tuple(tensor.shape)}; expected {expected}")


def check_observed(observed: Tensor, true: Tensor, views: str = "target and novel") -> None:
    """Raise `UserError` if a forward model's observations have another shape than those of the data."""
    if not observed.dtype.is_floating_point:
        raise UserError(
            f"the forward model gives observations of {_name_of(observed.dtype)}, which have no gradient; "
            "expected images in [-1, 1] as floating-point numbers"
        )
    if observed.shape != true.shape:
        raise UserError(
            f"the forward model gives observations of shape {tuple(observed.shape)}, those of the data have "
            f"{tuple(true.shape)} (scenes, {views} views, channels, height, width)"
        )


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check_views(views: Views, role: str, scenes: int) -> None:
    shape = tuple(views.observation.shape)
    if len(shape) != 5:
        raise UserError(
            f"{role}.observation has shape {shape}; expected scenes, views, channels, height, width "
            "(in an item of a data set: views, channels, height, width)"
        )
    if shape[0] != scenes:
        raise UserError(f"{role}.observation has shape {shape}, but the batch has {counted(scenes, 'key')}")
    # (Lightning sets the default to the precision that the model computes in.)
    dtype, default = views.observation.dtype, torch.get_default_dtype()
    if not dtype.is_floating_point or torch.promote_types(dtype, default) != default:
        raise UserError(
            f"{role}.observation is {_name_of(dtype)}; expected {_name_of(default)}, images in [-1, 1]: "
            "convert it with .float()"
        )
    for name, tensor in named_tensors(views.params, f"{role}.params"):
        if tuple(tensor.shape[:2]) != shape[:2]:
            raise UserError(
                f"{name} has shape {tuple(tensor.shape)}; expected it to begin with "
                f"{counted(shape[0], 'scene')} and {counted(shape[1], 'view')}, as {role}.observation does"
            )
