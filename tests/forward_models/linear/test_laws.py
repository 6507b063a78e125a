"""The laws of random operators, against the distributions that they state."""

import pytest
import torch
from every_operator import SHAPE, generator

from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.linear import (
    BoxMasks,
    CompressedSensings,
    Downsamplings,
    GaussianBlurs,
    Mask,
    Matrices,
    Matrix,
    Nothing,
    OneOf,
    OperatorLaw,
    PatchMasks,
    StridedMotionBlurs,
    Zero,
)
from dfm_lightning.forward_models.linear.motion_kernels import motion_kernel
from dfm_lightning.types import named_tensors

LAWS = [
    PatchMasks(),
    BoxMasks(),
    BoxMasks(inside=False),
    StridedMotionBlurs((2, 4)),
    Matrices((2, 9)),
    CompressedSensings(),
    GaussianBlurs(),
    Downsamplings((2, 4)),
    Nothing(),
    OneOf([Matrices((2, 9)), Nothing()]),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_the_seed_decides(law: OperatorLaw) -> None:
    first, again, other = (law.draw(3, SHAPE, generator(seed)) for seed in (1, 1, 2))
    assert first.batch == 3
    assert first.image_shape == SHAPE
    pairs = zip(named_tensors(first, ""), named_tensors(again, ""), strict=True)
    assert all(torch.equal(a[1], b[1]) for a, b in pairs)
    if not isinstance(law, (Nothing, Downsamplings)):
        values = [torch.cat([t.flatten().double() for _, t in named_tensors(o, "")]) for o in (first, other)]
        assert values[0].shape != values[1].shape or not torch.equal(*values)


def mask_of(law: OperatorLaw, count: int, size: int, seed: int = 1) -> torch.Tensor:
    """The masks that a law draws for colour images of a size."""
    drawn = law.draw(count, (3, size, size), generator(seed))
    assert isinstance(drawn, Mask)
    return drawn.mask


def test_patches_are_seen_and_their_sizes_follow_the_papers_law() -> None:
    masks = mask_of(PatchMasks(), 3000, 32)[:, 0].bool()
    assert masks.flatten(1).any(dim=1).all()
    # Exactly: P(size) ∝ 1 − E[(1 − p)^patches], p uniform in [0, 0.1].
    counts = [(32 // 2**k) ** 2 for k in range(6)]
    shown = torch.tensor([1 - (1 - 0.9 ** (n + 1)) / (0.1 * (n + 1)) for n in counts])
    expected = shown / shown.sum()
    # The side of a mask's patches is the largest power of 2 by which it is a grid.
    found = torch.zeros(6)
    for mask in masks:
        sides = [k for k in range(6) if torch.equal(mask[:: 2**k, :: 2**k].repeat_interleave(2**k, 0)
                                                    .repeat_interleave(2**k, 1), mask)]  # fmt: skip
        found[max(sides)] += 1
    # (A mask of small patches can look like one of larger ones: seldom, and so the tolerance.)
    assert found / len(masks) == pytest.approx(expected, abs=0.05)


def test_masks_do_not_depend_on_how_many_are_drawn() -> None:
    together = mask_of(PatchMasks(), 2, 16, seed=5)
    alone = mask_of(PatchMasks(), 1, 16, seed=5)
    assert torch.equal(together[:1], alone)


def test_boxes_lie_between_two_different_coordinates() -> None:
    masks = mask_of(BoxMasks(), 4000, 16)
    # E|i − j| of two different ones of n numbers is (n + 1) / 3.
    assert masks.mean() == pytest.approx((17 / 3 / 16) ** 2, rel=0.05)
    outside = mask_of(BoxMasks(inside=False), 10, 16)
    assert torch.equal(outside, 1 - mask_of(BoxMasks(), 10, 16))


def test_rows_of_matrices_have_length_one_or_none() -> None:
    matrices = Matrices((2, 9)).draw(300, SHAPE, generator())
    assert isinstance(matrices, Matrix)
    rows = matrices.rows.flatten(2)
    lengths = rows.norm(dim=2)
    numbers = (lengths > 0).sum(dim=1)
    assert lengths[lengths > 0] == pytest.approx(torch.ones(int(numbers.sum())), abs=1e-5)
    assert numbers.min() == 2
    assert numbers.max() == 9
    assert numbers.double().mean() == pytest.approx(5.5, abs=0.5)
    with pytest.raises(UserError, match=r"\b9\b"):
        Matrices((2, 9)).draw(1, (1, 2, 2), generator())


def test_a_quarter_of_the_papers_family_is_unconditional() -> None:
    family = OneOf([PatchMasks(), StridedMotionBlurs((2,)), Matrices((2, 9)), Nothing()])
    rng = generator()
    share = sum(isinstance(family.draw(1, SHAPE, rng), Zero) for _ in range(400)) / 400
    assert share == pytest.approx(0.25, abs=0.07)


@pytest.mark.parametrize("intensity", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("size", [8, 33, 64])
def test_motion_kernels_are_kernels(size: int, intensity: float) -> None:
    for seed in range(5):
        kernel = motion_kernel(size, intensity, generator(seed)).double()
        assert torch.isfinite(kernel).all()
        assert kernel.min() >= 0
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        places = torch.arange(size, dtype=torch.float64)
        assert (kernel.sum(1) * places).sum() == pytest.approx(size // 2, abs=0.1 * size)
