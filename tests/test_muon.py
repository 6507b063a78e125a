"""Muon against singular values, PyTorch's own, and Adam for what it leaves to Adam."""

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dfm_lightning.optimizers import AdamWithWarmup, MuonWithWarmup
from dfm_lightning.optimizers.muon import MuonWithLateParts, orthogonalised

SETTINGS = MuonWithWarmup(0.01, (0.9, 0.99), warmup_steps=4)
STEPS = 10


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (9, 9)])
def test_singular_values_become_about_one_and_their_vectors_stay(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape, dtype=torch.float64), full_matrices=False)
    matrix = left * torch.logspace(0, -2, min(shape), dtype=torch.float64) @ right
    turned = left.mT @ orthogonalised(matrix) @ right.mT
    values = turned.diagonal()
    assert values.min() > 0.6
    assert values.max() < 1.25
    assert (turned - values.diag()).abs().max() < 1e-8


def test_a_matrix_of_zeros_stays_one() -> None:
    assert torch.equal(orthogonalised(torch.zeros(4, 5)), torch.zeros(4, 5))


def test_matrices_move_as_under_pytorchs_muon() -> None:
    """Which computes the iteration in bfloat16: about two digits."""
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.zeros(8, 20)) for _ in range(2))
    optimizer = MuonWithWarmup(0.01, warmup_steps=0).optimizer([ours])
    other = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    for _ in range(6):
        gradient = torch.randn(8, 20)
        for weight in (ours, theirs):
            before, weight.grad = weight.detach().clone(), gradient.clone()
            (optimizer if weight is ours else other).step()
            assert weight.detach().sub(before).square().mean().sqrt() == pytest.approx(0.002, rel=0.2)
    torch.testing.assert_close(ours, theirs, rtol=0.05, atol=4e-4)


def test_a_convolution_is_a_matrix_from_all_its_inputs_to_its_outputs() -> None:
    torch.manual_seed(0)
    kernel, matrix = nn.Parameter(torch.zeros(8, 3, 3, 3)), nn.Parameter(torch.zeros(8, 27))
    optimizer = SETTINGS.optimizer([kernel, matrix])
    for _ in range(3):
        kernel.grad = torch.randn(8, 3, 3, 3)
        matrix.grad = kernel.grad.flatten(1).clone()
        optimizer.step()
    assert torch.equal(kernel.flatten(1), matrix)


@pytest.mark.parametrize("shape", [(5,), (3, 20), (20, 3), ()])
def test_all_else_moves_as_under_adam(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    ours, plain = (nn.Parameter(torch.zeros(shape)) for _ in range(2))
    optimizers = [
        settings.optimizer([weight, nn.Parameter(torch.zeros(8, 8))])
        for settings, weight in ((SETTINGS, ours), (AdamWithWarmup(0.01, (0.9, 0.99), warmup_steps=4), plain))
    ]
    for _ in range(5):
        ours.grad = torch.randn(shape)
        plain.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(ours, plain)
    assert bool(ours.any())


class Run:
    """A matrix and a bias, and a matrix that begins late; `absent`: a gradient of zero is not there."""

    def __init__(self, absent: bool) -> None:
        self.absent = absent
        self.weights = [nn.Parameter(torch.zeros(shape)) for shape in ((6, 5), (6,), (4, 7))]
        self.optimizer = SETTINGS.optimizer(self.weights)
        self.scheduler = SETTINGS.scheduler(self.optimizer, lambda: STEPS)

    def advance(self, steps: range, begins: int = 0) -> list[Tensor]:
        for step in steps:
            torch.manual_seed(step)
            for weight in self.weights:
                weight.grad = torch.randn(weight.shape)
            idle = step < begins or step % 4 == 3
            if idle:
                self.weights[2].grad = None if self.absent else torch.zeros(4, 7)
            self.optimizer.step()
            self.scheduler.step()
        return [weight.detach().clone() for weight in self.weights]

    def saved(self) -> dict[str, Any]:
        file = io.BytesIO()
        parts = {"optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict()}
        torch.save({**parts, "weights": [weight.detach() for weight in self.weights]}, file)
        file.seek(0)
        return torch.load(file, weights_only=True)

    def resume(self, saved: dict[str, Any]) -> None:
        with torch.no_grad():
            for weight, value in zip(self.weights, saved["weights"], strict=True):
                weight.copy_(value)
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scheduler.load_state_dict(saved["scheduler"])


@pytest.mark.parametrize("begins", [0, 5])
@pytest.mark.parametrize("cut", [2, 5, 7])
def test_resuming_and_absent_gradients_are_not_noticed(begins: int, cut: int) -> None:
    uninterrupted = Run(absent=True).advance(range(STEPS), begins)
    first, second = Run(absent=True), Run(absent=False)
    first.advance(range(cut), begins)
    second.resume(first.saved())
    assert all(map(torch.equal, second.advance(range(cut, STEPS), begins), uninterrupted))


def test_a_late_part_has_a_warm_up_of_its_own() -> None:
    run = Run(absent=False)
    run.advance(range(5), begins=5)
    assert not run.weights[2].any()
    before = run.weights[2].detach().clone()
    run.advance(range(5, 6), begins=5)
    # A quarter of the rate of 0.01, and steps of 0.2 of it.
    assert (run.weights[2].detach() - before).square().mean().sqrt() == pytest.approx(0.01 / 4 * 0.2, rel=0.2)


def test_its_groups_tell_it_from_adam() -> None:
    """So that a checkpoint of the one is refused by the other (`OptimizerAsGiven`)."""
    weights = [nn.Parameter(torch.zeros(6, 5)), nn.Parameter(torch.zeros(6))]
    ours, adam = SETTINGS.optimizer(weights), AdamWithWarmup().optimizer(weights)
    assert isinstance(ours, MuonWithLateParts)
    assert set(ours.param_groups[0]) - set(adam.param_groups[0]) == {"muon"}
