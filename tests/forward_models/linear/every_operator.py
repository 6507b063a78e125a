"""One batch of two different operators of each kind, for images of 3 × 8 × 8 pixels."""

from collections.abc import Callable

import torch
from torch import Tensor

from dfm_lightning.forward_models.linear import (
    BoxMasks,
    CompressedSensings,
    LinearOperator,
    Matrices,
    Matrix,
    PatchMasks,
    Projection,
    blur,
    downsampling,
    gaussian_kernel,
    matrix_operator,
    strided_blur,
    zero_operator,
)
from dfm_lightning.forward_models.linear.motion_kernels import motion_kernel, smoothed
from dfm_lightning.types import map_tensors

SHAPE = (3, 8, 8)
NUMBERS = 192


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def motion(size: int, stride: float) -> Tensor:
    return torch.stack([smoothed(motion_kernel(size, 0.5, generator(seed)), stride) for seed in (1, 2)])


def doubled(operator: LinearOperator) -> LinearOperator:
    """The operator in double precision; what a matrix keeps beside its rows is computed anew."""
    if isinstance(operator, Matrix):
        return matrix_operator(operator.rows.double())
    if isinstance(operator, Projection):
        return Projection(doubled(operator.operator))
    return map_tensors(lambda t: t.double() if t.is_floating_point() else t, operator)


MAKERS: dict[str, Callable[[], LinearOperator]] = {
    "patches": lambda: PatchMasks(0.5).draw(2, SHAPE, generator(3)),
    "box": lambda: BoxMasks().draw(2, SHAPE, generator()),
    "matrix": lambda: Matrices((2, 12)).draw(2, SHAPE, generator()),
    "compressed sensing": lambda: CompressedSensings(0.2).draw(2, SHAPE, generator()),
    "gaussian": lambda: blur(torch.stack([gaussian_kernel(d, 7) for d in (0.6, 1.1)]), SHAPE),
    "arbitrary": lambda: blur(torch.randn(2, 3, 4, generator=generator()), SHAPE),
    "mean of blocks": lambda: downsampling(2, (2, *SHAPE)),
    "weighted blocks": lambda: downsampling(4, (2, *SHAPE), torch.randn(2, 4, 4, generator=generator())),
    "strided blur 2": lambda: strided_blur(motion(8, 2.0), 2, SHAPE),
    "strided blur 4": lambda: strided_blur(motion(8, 4.0), 4, SHAPE),
    "approximate strided blur 2": lambda: strided_blur(motion(8, 2.0), 2, SHAPE, approximate=True),
    "zero": lambda: zero_operator((2, *SHAPE)),
    "projection": lambda: Projection(Matrices((2, 12)).draw(2, SHAPE, generator())),
}


def dense(operator: LinearOperator) -> Tensor:
    """The matrices [b m n] of operators, column by column."""
    columns = torch.eye(NUMBERS, dtype=torch.float64).view(NUMBERS, *SHAPE).expand(operator.batch, -1, -1, -1, -1)
    return operator.apply(columns).flatten(2).mT
