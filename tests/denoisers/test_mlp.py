"""The stock denoiser for small problems."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dfm_lightning.denoisers import MLPDenoiser
from dfm_lightning.errors import UserError
from dfm_lightning.networks.embeddings import level_sinusoids
from dfm_lightning.networks.mlp import LevelMLP
from dfm_lightning.types import Views


class Sensor(NamedTuple):
    """Parameters of two kinds."""

    place: Tensor
    number: Tensor


BATCH = 5


def context(views: int = 2) -> Views:
    generator = torch.Generator().manual_seed(0)
    place = torch.randn(BATCH, views, 3, generator=generator)
    number = torch.randint(0, 9, (BATCH, views), generator=generator)
    return Views(torch.randn(BATCH, views, 1, 2, 2, generator=generator), Sensor(place, number))


def target_params() -> Sensor:
    return Sensor(
        torch.randn(BATCH, 1, 3, generator=torch.Generator().manual_seed(1)), torch.ones(BATCH, 1).long()
    )


NOISY = torch.randn(BATCH, 1, 1, 2, 2, generator=torch.Generator().manual_seed(2))
LEVEL = torch.tensor([0, 10, 200, 500, 999])
# Context views of 4 + 3 + 1 numbers, the target's parameters, the noisy target.
INPUTS = 2 * 8 + 4 + 4


def denoiser(inputs: int = INPUTS) -> MLPDenoiser:
    torch.manual_seed(3)
    return MLPDenoiser(inputs, signal_shape=[1, 3, 2], width=16)


def test_the_network_sees_every_number_once() -> None:
    digest = denoiser().condition(context(), target_params())
    expected = [context().observation, context().params.place, context().params.number, *target_params()]
    torch.testing.assert_close(digest.known, torch.cat([t.flatten(1).float() for t in expected], dim=1))


def test_every_number_has_an_influence() -> None:
    model, seen, noisy = denoiser(), context(), NOISY.clone().requires_grad_()
    seen.observation.requires_grad_()
    seen.params.place.requires_grad_()
    model(noisy, LEVEL, model.condition(seen, target_params())).sum().backward()
    for tensor in (noisy, seen.observation, seen.params.place):
        assert tensor.grad is not None
        assert (tensor.grad != 0).all()


def test_signals_have_the_shape_asked_for() -> None:
    model = denoiser()
    assert model(NOISY, LEVEL, model.condition(context(), target_params())).shape == (BATCH, 1, 3, 2)


def test_a_signal_of_several_tensors_is_the_same_numbers_by_name() -> None:
    torch.manual_seed(3)
    several = MLPDenoiser(INPUTS, signal_shape={"flow": [2, 2], "gain": [1], "weight": [1, 1]}, width=16)
    known = several.condition(context(), target_params())
    signal = several(NOISY, LEVEL, known)
    assert {name: part.shape for name, part in signal.items()} == {
        "flow": (BATCH, 2, 2),
        "gain": (BATCH, 1),
        "weight": (BATCH, 1, 1),
    }
    one = denoiser()  # of six numbers and the same seed, so the same network
    together = torch.cat([part.flatten(1) for part in signal.values()], dim=1)
    torch.testing.assert_close(together, one(NOISY, LEVEL, known).flatten(1))


def test_the_level_matters() -> None:
    model = denoiser()
    known = model.condition(context(), target_params())
    outputs = [model(NOISY, torch.full((BATCH,), level), known) for level in (0, 1, 500, 999)]
    for i, first in enumerate(outputs):
        assert all((first - second).abs().max() > 1e-4 for second in outputs[:i])


def test_a_problem_without_context_is_possible() -> None:
    model = denoiser(inputs=8)
    assert model(NOISY, LEVEL, model.condition(context(views=0), target_params())).shape == (BATCH, 1, 3, 2)


def test_a_wrong_number_of_inputs_is_answered_with_the_right_one() -> None:
    model = denoiser(inputs=20)
    with pytest.raises(UserError, match=r"inputs=20.*\b24\b"):
        model(NOISY, LEVEL, model.condition(context(), target_params()))


def test_the_network_is_the_formula_of_its_docstring() -> None:
    torch.manual_seed(4)
    network = LevelMLP(inputs=7, outputs=2, width=8, depth=2)
    values = torch.randn(BATCH, 7)
    weights = network.state_dict()

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    hidden = linear("values_in", values) + linear("level_in", level_sinusoids(LEVEL, 8, "cosine_first"))
    for block in ("blocks.0", "blocks.1"):
        gate = linear(f"{block}.gate", hidden)
        hidden = hidden + linear(f"{block}.output", gate * torch.sigmoid(gate) * linear(f"{block}.value", hidden))
    torch.testing.assert_close(network(values, LEVEL), linear("out", F.silu(hidden)))


def test_a_single_number_is_enough_of_an_observation() -> None:
    """The context and the noisy target of one number each are two inputs; a denoiser of one is no mistake."""
    with pytest.raises(ValueError, match="inputs"):
        MLPDenoiser(0, [1])
    assert MLPDenoiser(1, [1]).inputs == 1
