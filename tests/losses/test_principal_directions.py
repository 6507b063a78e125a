"""Losses of principal directions against what InvFusion's and NPPC's codes computed, and against covariances."""

from pathlib import Path

import pytest
import torch

from dfm_lightning.losses.principal_directions import direction_losses, nppc_losses, orthogonal_directions

DATA = torch.load(Path(__file__).parents[1] / "data/inverse_problems/nppc.pt", weights_only=True)


def test_invfusions_losses_and_gradients() -> None:
    case, w = DATA["invfusion"], DATA["w"].clone().requires_grad_()
    aligned, lengths = direction_losses(DATA["mean"] - DATA["x"], w)
    assert aligned.detach() == pytest.approx(case["direction_loss"], rel=1e-9)
    assert lengths.detach() == pytest.approx(case["norm_loss"], rel=1e-9)
    for loss, name in ((aligned, "grad_w_direction"), (lengths, "grad_w_norm")):
        (gradient,) = torch.autograd.grad(loss.sum(), w, retain_graph=True)
        assert gradient == pytest.approx(case[name], abs=1e-12)


def test_nppcs_losses() -> None:
    case = DATA["original"]
    explained, each = nppc_losses(DATA["mean"] - DATA["x"], DATA["w"])
    assert explained == pytest.approx(case["reconst_err"], rel=1e-9)
    assert each == pytest.approx(case["second_moment_mse"], rel=1e-9)
    objective = explained.mean() + 0.1 * each.mean()
    assert objective.item() == pytest.approx(case["objective"].item(), rel=1e-9)


def test_directions_become_orthogonal() -> None:
    assert orthogonal_directions(DATA["w"]) == pytest.approx(DATA["original"]["orthogonal"], abs=1e-12)
    none = torch.zeros(2, 0, 3, 4, 4)
    assert orthogonal_directions(none).shape == none.shape


def test_the_best_directions_are_the_principal_axes() -> None:
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=generator))[0]
    deviations = torch.tensor([3.0, 1.5, 0.2, 0.1, 0.1, 0.1], dtype=torch.float64)
    errors = torch.randn(20000, 6, dtype=torch.float64, generator=generator) * deviations @ axes.T

    def loss(first: torch.Tensor, second: torch.Tensor) -> float:
        w = torch.stack([first, second]).expand(len(errors), 2, 6)
        return float(direction_losses(errors, w)[0].mean())

    best = loss(axes[:, 0], axes[:, 1])
    assert best < loss(axes[:, 0], axes[:, 2]) - 0.05
    assert best < loss(axes[:, 0] + 0.5 * axes[:, 2], axes[:, 1]) - 0.01
