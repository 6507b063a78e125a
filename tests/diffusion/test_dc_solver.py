"""DC-Solver against UniPC and against polynomials."""

import numpy as np
import pytest
import torch
from known_mixture import Mixture, reference
from torch import Tensor

from dfm_lightning.diffusion import CosineProcess, DCSolver, Quadratic, Sampler, UniPC
from dfm_lightning.types import Level

REFERENCE = reference()
PROCESS = CosineProcess()
MIXTURE = Mixture(REFERENCE["weights"], REFERENCE["means"], REFERENCE["stds"])


def states(sampler: Sampler) -> list[Tensor]:
    noise = REFERENCE["x_T"]
    denoise = MIXTURE.denoiser(PROCESS)
    return [step.noisy for step in sampler.sample(denoise, noise, PROCESS, lambda: noise)]


@pytest.mark.parametrize("corrector", [True, False])
@pytest.mark.parametrize("normaliser", ["bh1", "bh2"])
def test_without_compensation_it_is_unipc(corrector: bool, normaliser: str) -> None:
    common = {"corrector": corrector, "normaliser": normaliser, "spacing": Quadratic()}
    for own, other in (
        (DCSolver(9, **common), UniPC(9, uneven_below=0, **common)),
        (DCSolver(9, [2, 3, 3, 3, 3, 3, 2], **common), UniPC(9, order=3, uneven_below=0, **common)),
        (DCSolver(2, **common), UniPC(2, uneven_below=0, **common)),
        (DCSolver(1, **common), UniPC(1, uneven_below=0, **common)),
    ):
        torch.testing.assert_close(states(own), states(other), rtol=0, atol=1e-12)


def test_by_default_it_is_unipc_as_published() -> None:
    expected = UniPC(9, order=2, corrector=True, normaliser="bh2", uneven_below=0)
    torch.testing.assert_close(states(DCSolver(9)), states(expected), rtol=0, atol=1e-12)


def test_of_first_order_without_corrector_it_is_ddim() -> None:
    from dfm_lightning.diffusion import DDIM

    own = DCSolver(7, [1] * 5, corrector=False, spacing=Quadratic())
    torch.testing.assert_close(states(own), states(DDIM(7, spacing=Quadratic())), rtol=0, atol=1e-12)


def test_a_compensated_estimate_is_the_polynomials_value_elsewhere() -> None:
    steps, shares = 6, [0.9, 1.2, 0.7, 1.05]
    levels = [int(level) for level in Quadratic().levels(steps, PROCESS)]
    generator = torch.Generator().manual_seed(0)
    given = torch.randn(steps, 2, 3, generator=generator, dtype=torch.float64)

    def denoise(noisy: Tensor, level: Level) -> Tensor:
        return given[levels.index(int(level[0]))]

    # What the history must hold, from polynomials that NumPy fits.
    held = [given[0].numpy()]
    for place in range(1, steps - 1):
        nodes = levels[max(place - 2, 0) : place + 1]
        values = [*held[max(place - 2, 0) :], given[place].numpy()]
        wanted = shares[place - 1] * levels[place] + (1 - shares[place - 1]) * levels[place - 1]
        fitted = np.polyfit(np.array(nodes) / 1000, np.stack([v.ravel() for v in values]), len(nodes) - 1)
        powers = (wanted / 1000) ** np.arange(len(nodes) - 1, -1, -1)
        held.append((powers @ fitted).reshape(2, 3))

    def moved(noisy: Tensor, level: Level) -> Tensor:
        place = levels.index(int(level[0]))
        return torch.from_numpy(held[place]) if place < steps - 1 else given[-1]

    noise = torch.zeros(2, 3, dtype=torch.float64)
    compensated = DCSolver(steps, compensation=shares, corrector=False, spacing=Quadratic())
    plain = DCSolver(steps, corrector=False, spacing=Quadratic())
    found = [step.noisy for step in compensated.sample(denoise, noise, PROCESS, lambda: noise)]
    expected = [step.noisy for step in plain.sample(moved, noise, PROCESS, lambda: noise)]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    assert torch.equal(found[-1], given[-1])


@pytest.mark.parametrize(("name", "value"), [("orders", [2, 2]), ("compensation", [1.0]), ("orders", [4, 2, 2])])
def test_lists_of_another_length_or_order_are_refused(name: str, value: list) -> None:
    with pytest.raises(ValueError, match=name):
        DCSolver(5, **{name: value})
