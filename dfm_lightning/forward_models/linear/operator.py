"""`LinearOperator`: the interface of linear forward models, one operator for each element of a batch."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.errors import UserError
from dfm_lightning.randomness import generator_for
from dfm_lightning.types import at_least_float32

# Abilities that a method may need of an operator beyond `apply`.
Ability = Literal["adjoint", "pseudo-inverse", "singular values"]
ALL_ABILITIES: frozenset[Ability] = frozenset({"adjoint", "pseudo-inverse", "singular values"})

_POWER_ITERATIONS = 1000
_POWER_TOLERANCE = 1e-9


class Decomposition(NamedTuple):
    """A singular value decomposition A = U S Vᵀ of each operator of a batch, by functions.

    `values` are the singular values, one for each number n = c · h · w of an image: 0 if a direction is unseen. V
    is orthogonal. `to_right` computes Vᵀx; `from_right` V v; `to_left` the coordinates Uᵀy, in the places of their
    singular values and 0 elsewhere.
    """

    values: Float[Tensor, "b n"]
    to_right: Callable[[Tensor], Tensor]
    from_right: Callable[[Tensor], Tensor]
    to_left: Callable[[Tensor], Tensor]


class LinearOperator(ABC):
    """Linear maps of images [c h w] to measurements [p q r], one for each element of a batch.

    An operator of the project is a NamedTuple of tensors that begin with the batch, and travels as the parameters
    φ in `Views.params`, where its tensors begin with `b v`; `LinearObservation` brings the two together. Each
    function also maps stacks of copies: any dimensions may stand between the batch and the image, all under the
    same operator. Inputs of double precision are computed in double precision. Everything is differentiable in
    images and measurements.

    Subclasses implement the functions with an underscore, for one dimension of copies.
    """

    @property
    def abilities(self) -> frozenset[Ability]:
        """Return what the operators offer beyond `apply`."""
        return ALL_ABILITIES

    @property
    @abstractmethod
    def batch(self) -> int:
        """Return the number of operators."""

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """Return channels, height and width of the images."""

    @property
    @abstractmethod
    def measurement_shape(self) -> tuple[int, int, int]:
        """Return the shape of a measurement."""

    def apply(self, image: Float[Tensor, "b *k c h w"]) -> Float[Tensor, "b *k p q r"]:
        """Measure images: A x.

        Raises:
            UserError: the images have another size than those that the operators measure.
        """
        return self._on_copies(self._apply, image, self.image_shape, "images")

    def adjoint(self, measurement: Float[Tensor, "b *k p q r"]) -> Float[Tensor, "b *k c h w"]:
        """Return Aᵀ y, for which ⟨A x, y⟩ = ⟨x, Aᵀ y⟩.

        Raises:
            UserError: the measurements have another size than the operators'.
        """
        return self._on_copies(self._adjoint, measurement, self.measurement_shape, "measurements")

    def pseudo_inverse(self, measurement: Float[Tensor, "b *k p q r"]) -> Float[Tensor, "b *k c h w"]:
        """Return A† y, the smallest of the images that best explain the measurement (Moore and Penrose).

        Raises:
            UserError: the measurements have another size than the operators'.
        """
        return self._on_copies(self._pseudo_inverse, measurement, self.measurement_shape, "measurements")

    def exact(self) -> "LinearOperator":
        """Return the same map with its true pseudo-inverse, where its own is approximate and the true is known."""
        return self

    def norm(self) -> Float[Tensor, " b"]:
        """Return the largest singular value of each operator; here estimated by power iteration on AᵀA."""
        return power_iteration(self)

    def measured_numbers(self) -> Float[Tensor, " b"]:
        """Return how many numbers of a measurement depend on the image."""
        return self.measured_places().flatten(1).sum(dim=1)

    def measured_places(self) -> Float[Tensor, "b p q r"]:
        """Return 1 for the numbers of a measurement that depend on the image, 0 for others; here all 1."""
        return torch.ones(self.batch, *self.measurement_shape)

    def decompose(self) -> Decomposition:
        """Return the singular value decomposition of each operator.

        Raises:
            UserError: it is not available.
        """
        raise UserError(f"{type(self).__name__} has no singular value decomposition")

    @abstractmethod
    def _apply(self, image: Float[Tensor, "b k c h w"]) -> Float[Tensor, "b k p q r"]:
        """See `apply`."""

    @abstractmethod
    def _adjoint(self, measurement: Float[Tensor, "b k p q r"]) -> Float[Tensor, "b k c h w"]:
        """See `adjoint`."""

    @abstractmethod
    def _pseudo_inverse(self, measurement: Float[Tensor, "b k p q r"]) -> Float[Tensor, "b k c h w"]:
        """See `pseudo_inverse`."""

    def _on_copies(
        self, function: Callable[[Tensor], Tensor], given: Tensor, shape: tuple[int, ...], what: str
    ) -> Tensor:
        if given.ndim < 4 or tuple(given.shape[-3:]) != shape or len(given) != self.batch:
            raise UserError(
                f"{type(self).__name__} takes {what} of shape {shape} for a batch of {self.batch}, "
                f"got {tuple(given.shape)}"
            )
        copies = tuple(given.shape[1:-3])
        found = function(given.reshape(len(given), math.prod(copies), *shape))
        return found.reshape(len(given), *copies, *found.shape[2:])


def blank(shape: tuple[int, ...]) -> Float[Tensor, "*b c h w 0"]:
    """Return an empty tensor that stores a shape [*b c h w]: the images' shape among an operator's tensors."""
    return torch.zeros(*shape, 0)


def shape_in(holder: Float[Tensor, "*b c h w 0"]) -> tuple[int, int, int]:
    """Return the images' shape stored by `blank`."""
    channels, height, width = holder.shape[-4:-1]
    return (channels, height, width)


def promoted(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Convert both to the higher of their precisions, and at least float32."""
    dtype = torch.promote_types(at_least_float32(first), second.dtype)
    return first.to(dtype), second.to(dtype)


def check_abilities(operator: LinearOperator, needed: frozenset[Ability], who: str) -> None:
    """Raise `UserError` if an operator lacks what a method needs."""
    missing = sorted(needed - operator.abilities)
    if missing:
        raise UserError(
            f"{who} needs the operator's {' and '.join(missing)}, which {type(operator).__name__} lacks: "
            "choose another solver or another operator"
        )


@torch.no_grad()
def power_iteration(operator: LinearOperator) -> Float[Tensor, " b"]:
    """Estimate the largest singular value of each operator, from the same start every time.

    It ends when the estimates change by less than one in 10⁹, or after 1000 iterations; estimates approach from
    below.
    """
    start = torch.randn(operator.image_shape, generator=generator_for("power iteration", seed=0)).double()
    tensors = [part for part in operator if isinstance(part, Tensor)] if isinstance(operator, tuple) else []
    device = tensors[0].device if tensors else torch.device("cpu")
    precise = torch.float32 if device.type == "mps" else torch.float64
    vector = start.to(device, precise).expand(operator.batch, *operator.image_shape)
    squared = torch.zeros(operator.batch, dtype=precise, device=device)
    for _ in range(_POWER_ITERATIONS):
        vector = vector / _length(vector).clamp(min=torch.finfo(precise).tiny).view(-1, 1, 1, 1)
        vector = operator.adjoint(operator.apply(vector)).to(precise)
        before, squared = squared, _length(vector)
        if bool(((squared - before).abs() <= _POWER_TOLERANCE * squared).all()):
            break
    return squared.sqrt()


def _length(vectors: Float[Tensor, "b *n"]) -> Float[Tensor, " b"]:
    return vectors.flatten(1).norm(dim=1)


def inner(first: Float[Tensor, "b *n"], second: Float[Tensor, "b *n"]) -> Float[Tensor, "b *ones"]:
    """Return the inner product of each pair, shaped to multiply the vectors."""
    return (first * second).flatten(1).sum(dim=1).view(-1, *[1] * (first.ndim - 1))


def conjugate_gradients(
    symmetric: Callable[[Tensor], Tensor],
    right: Float[Tensor, "b *n"],
    start: Float[Tensor, "b *n"] | None = None,
    iterations: int = 100,
    tolerance: float = 0.0,
) -> Float[Tensor, "b *n"]:
    """Solve M z = right for symmetric positive definite M, for each element of a batch independently.

    Args:
        symmetric: M.
        right: the right-hand side.
        start: initial value; 0 if None.
        iterations: the greatest number of applications of M, besides the first.
        tolerance: length of the residual, relative to the right-hand side's, at which an element counts as solved.
    """
    solution = torch.zeros_like(right) if start is None else start
    residual = right - symmetric(solution)
    direction, squared, goal = residual, inner(residual, residual), inner(right, right) * tolerance**2
    for _ in range(iterations):
        if bool((squared <= goal).all()):
            break
        image = symmetric(direction)
        curvature = inner(direction, image)
        # A solved element stays as it is, whatever the others do.
        step = torch.where(squared > goal, squared / curvature, 0.0).nan_to_num(0.0, 0.0, 0.0)
        solution = solution + step * direction
        residual = residual - step * image
        before, squared = squared, inner(residual, residual)
        direction = residual + (squared / before).nan_to_num(0.0, 0.0, 0.0) * direction
    return solution


class HoldsImageShape(LinearOperator):
    """An operator whose tensors do not reveal the images' shape; an empty one (`blank`) stores it."""

    blank: Float[Tensor, "*b c h w 0"]

    @property
    def batch(self) -> int:
        """See `LinearOperator.batch`."""
        return len(self.blank)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """See `LinearOperator.image_shape`."""
        return shape_in(self.blank)

    @property
    def measurement_shape(self) -> tuple[int, int, int]:
        """See `LinearOperator.measurement_shape`: an image's, unless a subclass says otherwise."""
        return self.image_shape
