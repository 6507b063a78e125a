"""Random operators: the distributions of the InvFusion paper, as functions of a generator's seed."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.linear.blurs import blur, downsampling, gaussian_kernel
from dfm_lightning.forward_models.linear.masks import mask_operator, zero_operator
from dfm_lightning.forward_models.linear.matrices import CompressedSensing, matrix_operator
from dfm_lightning.forward_models.linear.motion_kernels import motion_kernel, smoothed
from dfm_lightning.forward_models.linear.operator import LinearOperator
from dfm_lightning.forward_models.linear.strided_blur import strided_blur
from dfm_lightning.ranges import Number, check_above, check_ascending, check_at_least, check_within
from dfm_lightning.record import Recorded

Shape = tuple[int, int, int]


class OperatorLaw(Recorded, ABC):
    """A distribution of operators of one kind, or of several kinds, one for each batch."""

    @abstractmethod
    def draw(self, count: int, shape: Shape, generator: torch.Generator) -> LinearOperator:
        """Draw operators for images of a shape (c, h, w), from a generator on the CPU.

        Unless a class says otherwise, each is drawn independently: its distribution does not depend on `count`.
        """


def _uniform(generator: torch.Generator, least: float = 0.0, most: float = 1.0) -> float:
    return least + (most - least) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _integer(generator: torch.Generator, least: int, most: int) -> int:
    """Draw an integer uniformly, both ends included."""
    return int(torch.randint(least, most + 1, (), generator=generator))


class PatchMasks(OperatorLaw):
    """In-painting: some of the patches of a grid are visible.

    The patches' side is a power of 2, uniform over the exponents up to that of the image; each is visible with a
    probability that is uniform up to `most_visible`; probability and patches are redrawn until one is visible, as
    in the paper. (Its released code redraws for a whole batch, with another probability, so that its masks depend
    on the size of the batch.)

    Args:
        most_visible: the greatest probability that a patch is visible.
    """

    def __init__(self, most_visible: Number = 0.1) -> None:
        check_above(0, most_visible=most_visible)
        check_within(0, 1, most_visible=most_visible)
        self.most_visible = most_visible

    def draw(self, count: int, shape: Shape, generator: torch.Generator) -> LinearOperator:
        """See `OperatorLaw.draw`."""
        channels, height, width = shape
        masks = [self._mask(height, width, generator) for _ in range(count)]
        return mask_operator(torch.stack(masks)[:, None], channels)

    def _mask(self, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
        while True:
            side = 2 ** _integer(generator, 0, int(math.log2(min(height, width))))
            visible = _uniform(generator, most=self.most_visible)
            grid = torch.rand(-(-height // side), -(-width // side), generator=generator) < visible
            if bool(grid.any()):
                whole = grid.repeat_interleave(side, dim=0).repeat_interleave(side, dim=1)
                return whole[:height, :width].float()


class BoxMasks(OperatorLaw):
    """Out-painting: one box is visible, between two different coordinates of each axis, uniformly drawn.

    Args:
        inside: whether the box is the visible part (out-painting), or the hidden part (in-painting).
    """

    def __init__(self, inside: bool = True) -> None:
        self.inside = inside

    def draw(self, count: int, shape: Shape, generator: torch.Generator) -> LinearOperator:
        """See `OperatorLaw.draw`."""
        channels, height, width = shape
        mask = torch.zeros(count, 1, height, width)
        for each in mask:
            rows, columns = (sorted(torch.randperm(n, generator=generator)[:2].tolist()) for n in (height, width))
            each[:, rows[0] : rows[1], columns[0] : columns[1]] = 1
        return mask_operator(mask if self.inside else 1 - mask, channels)


class StridedMotionBlurs(OperatorLaw):
    """Motion blur and sub-sampling: a random movement, smoothed by a Gaussian of the stride's width.

    All operators drawn together have the same stride; each has a kernel of its own. Kernels have the image's size,
    as in the paper. (Its released code uses half of that.)

    Args:
        strides: one of which is drawn.
        kernel_share: the kernel's size as a share of the image's.
        approximate: whether the pseudo-inverse is that of the released code, which is fast at any size, or the
            true one.
    """

    def __init__(
        self, strides: Sequence[int] = (2, 4, 8), kernel_share: Number = 1.0, approximate: bool = True
    ) -> None:
        check_at_least(1, strides=strides)
        check_above(0, kernel_share=kernel_share)
        check_within(0, 2, kernel_share=kernel_share)
        if not strides:
            raise ValueError("strides must list at least one stride")
        self.strides = list(strides)
        self.kernel_share = kernel_share
        self.approximate = approximate

    def draw(self, count: int, shape: Shape, generator: torch.Generator) -> LinearOperator:
        """See `OperatorLaw.draw`."""
        stride = self.strides[_integer(generator, 0, len(self.strides) - 1)]
        size = max(round(self.kernel_share * min(shape[1:])), 1)
        kernels = [
            smoothed(motion_kernel(size, _uniform(generator), generator), float(stride)) for _ in range(count)
        ]
        return strided_blur(torch.stack(kernels), stride, shape, self.approximate)


class Matrices(OperatorLaw):
    """Matrices whose rows are normal random vectors of length 1; their number is uniform.

    Args:
        rows: least and greatest number of rows; all are padded to the greatest with zeros.
    """

    def __init__(self, rows: tuple[int, int] = (2, 128)) -> None:
        check_ascending(1, rows=rows)
        self.rows = rows

    def draw(self, count: int, shape: Shape, generator: torch.Generator) -> LinearOperator:
        """See `OperatorLaw.draw`."""
        if self.rows[1] > math.prod(shape):
            raise UserError(f"{self.rows[1]} rows are more than the {math.prod(shape)} numbers of an image")
        matrix = torch.zeros(count, self.rows[1], *shape)
        for each in matrix:
            rows = torch.randn(_integer(generator, *self.rows), *shape, generator=generator)
            each[: len(rows)] = rows / rows.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return matrix_operator(matrix)


class CompressedSensings(OperatorLaw):
    """Random signs, a fast transform, and a random subset of its coefficients.

    Args:
        share: number of measured numbers, as a share of an image's.
    """

    def __init__(self, share: Number = 0.1) -> None:
        check_above(0, share=share)
        check_within(0, 1, share=share)
        self.share = share

    def draw(self, count: int, shape: Shape, generator: torch.Generator) -> LinearOperator:
        """See `OperatorLaw.draw`."""
        numbers = math.prod(shape)
        signs = torch.randint(0, 2, (count, *shape), generator=generator).float() * 2 - 1
        kept = [
            torch.randperm(numbers, generator=generator)[: max(round(self.share * numbers), 1)]
            for _ in range(count)
        ]
        return CompressedSensing(signs, torch.stack(kept))


class GaussianBlurs(OperatorLaw):
    """Gaussian blur of periodic images; its width is uniform.

    Args:
        deviations: least and greatest standard deviation in pixels.
    """

    def __init__(self, deviations: tuple[Number, Number] = (0.5, 3.0)) -> None:
        check_above(0, deviations=deviations)
        check_ascending(0, deviations=deviations)
        self.deviations = deviations

    def draw(self, count: int, shape: Shape, generator: torch.Generator) -> LinearOperator:
        """See `OperatorLaw.draw`."""
        size = min(shape[1:])
        kernels = [gaussian_kernel(_uniform(generator, *self.deviations), size) for _ in range(count)]
        return blur(torch.stack(kernels), shape)


class Downsamplings(OperatorLaw):
    """Smaller images: the mean of blocks of pixels.

    Args:
        factors: one of which is drawn for all operators that are drawn together.
    """

    def __init__(self, factors: Sequence[int] = (2, 4, 8)) -> None:
        check_at_least(1, factors=factors)
        if not factors:
            raise ValueError("factors must list at least one factor")
        self.factors = list(factors)

    def draw(self, count: int, shape: Shape, generator: torch.Generator) -> LinearOperator:
        """See `OperatorLaw.draw`."""
        factor = self.factors[_integer(generator, 0, len(self.factors) - 1)]
        return downsampling(factor, (count, *shape))


class Nothing(OperatorLaw):
    """The operator that shows nothing: unconditional generation."""

    def draw(self, count: int, shape: Shape, generator: torch.Generator) -> LinearOperator:
        """See `OperatorLaw.draw`."""
        return zero_operator((count, *shape))


class OneOf(OperatorLaw):
    """One of several distributions, drawn for all operators that are drawn together.

    The paper's family consists of patches, motion blur, matrices and nothing, with equal probabilities: a quarter
    of its training is unconditional.

    Args:
        laws: one of which is drawn, with equal probabilities.
    """

    def __init__(self, laws: Sequence[OperatorLaw]) -> None:
        if not laws:
            raise ValueError("laws must list at least one law")
        self.laws = list(laws)

    def draw(self, count: int, shape: Shape, generator: torch.Generator) -> LinearOperator:
        """See `OperatorLaw.draw`."""
        return self.laws[_integer(generator, 0, len(self.laws) - 1)].draw(count, shape, generator)
