"""Choosing what to observe next, where the posterior is known exactly: does it pay?

    python examples/closed_form/next_observation.py

Signals are images of 4 × 4 pixels from a Gaussian mixture; an observation is one pixel. The first is drawn at
random. Each further one is chosen by `sampling.ranked` among samples of the exact posterior, drawn at random, or
taken evenly over the image. Prints the root mean square error of the posterior mean after each, and how much less
the chosen ones leave than the random and the even ones, scene by scene, with 95% intervals.
"""

import argparse
from collections.abc import Callable

import torch
from jaxtyping import Float
from mixture import GaussianMixture
from torch import Tensor

from dfm_lightning.report.statistics import mean_of, paired_difference
from dfm_lightning.sampling import ranked

SIDE = 4
PIXELS = SIDE * SIDE
# Far apart from each other and from the border, in the order of a low-discrepancy sequence.
EVENLY = (5, 10, 7, 8, 2, 13, 0, 15, 3, 12, 6, 9, 1, 14, 4, 11)
PARTICLES = 64

Choice = Callable[[int, list[int], Tensor], int]


def images(components: int = 6) -> GaussianMixture:
    """A mixture over images: means of several shapes, and smooth differences around each, more in some places."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()], dim=1).float()
    means, factors = [], []
    for _ in range(components):
        centre = torch.rand(2, generator=generator) * (SIDE - 1)
        reach = 0.8 + torch.rand(1, generator=generator)
        means.append(2 * torch.exp(-(places - centre).square().sum(dim=1) / (2 * reach**2)) - 0.5)
        near = torch.exp(-torch.cdist(places, places).square() / (2 * 1.2**2))
        strength = 0.05 + 0.5 * torch.rand(PIXELS, generator=generator)
        factors.append(torch.linalg.cholesky(strength[:, None] * near * strength + 1e-4 * torch.eye(PIXELS)))
    return GaussianMixture(torch.full((components,), 1 / components), torch.stack(means), torch.stack(factors))


def errors(
    mixture: GaussianMixture, signals: Float[Tensor, "b d"], first: list[int], choose: Choice, number: int
) -> list[list[float]]:
    """The error of the posterior mean after each observation, for each signal."""
    found = []
    for row, signal in enumerate(signals):
        seen, each = [first[row]], []
        for count in range(1, number + 1):
            rows = torch.eye(PIXELS)[seen][None]
            values = signal[seen][None]
            mean = mixture.posterior_mean(rows, values)[0]
            each.append((mean - signal).square().mean().sqrt().item())
            if count < number:
                generator = torch.Generator().manual_seed(1000 * row + count)
                particles = mixture.sample_posterior(rows, values, PARTICLES, generator)[0]
                seen.append(choose(row, seen, particles))
        found.append(each)
    return found


def actively(row: int, seen: list[int], particles: Float[Tensor, "n d"]) -> int:
    """The pixel that samples disagree about most."""
    return next(int(place) for place in ranked(particles[..., None]) if int(place) not in seen)


def at_random(row: int, seen: list[int], particles: Float[Tensor, "n d"]) -> int:
    """Any pixel that has not been seen."""
    generator = torch.Generator().manual_seed(7919 * row + len(seen))
    left = [place for place in range(PIXELS) if place not in seen]
    return left[int(torch.randint(len(left), (), generator=generator))]


def evenly(row: int, seen: list[int], particles: Float[Tensor, "n d"]) -> int:
    """The next of a fixed order that covers the image."""
    return next(place for place in EVENLY if place not in seen)


CHOICES: dict[str, Choice] = {"chosen": actively, "random": at_random, "even": evenly}


def compared(scenes: int, number: int) -> dict[str, list[list[float]]]:
    """The errors of all ways of choosing, on the same signals with the same first pixel."""
    mixture = images()
    generator = torch.Generator().manual_seed(1)
    signals = mixture.sample(scenes, generator)
    first = torch.randint(PIXELS, (scenes,), generator=generator).tolist()
    return {name: errors(mixture, signals, first, choose, number) for name, choose in CHOICES.items()}


def print_table(found: dict[str, list[list[float]]], number: int) -> None:
    """Print the mean error after each observation, and how much less the chosen ones leave, as Markdown."""
    print(
        "| observations | chosen | random | even | less than random | less than even |\n|---|---|---|---|---|---|"
    )
    for place in range(number):
        column = {name: [each[place] for each in values] for name, values in found.items()}
        cells = [f"{mean_of(values).mean:.4f}" for values in column.values()]
        for other in ("random", "even"):
            less = paired_difference(column[other], column["chosen"])
            cells.append(f"{less.mean:.4f} [{less.low:.4f}, {less.high:.4f}]")
        print(f"| {place + 1} | {' | '.join(cells)} |")


def main() -> None:
    """Compare, and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--scenes", type=int, default=300)
    arguments.add_argument("--number", type=int, default=6, help="of observations")
    given = arguments.parse_args()
    found = compared(given.scenes, given.number)
    print_table(found, given.number)


if __name__ == "__main__":
    main()
