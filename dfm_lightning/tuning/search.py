"""A search among samplers: the best so far is changed at random, and the better one kept."""

from collections.abc import Callable

import numpy as np

from dfm_lightning.diffusion import NoiseProcess
from dfm_lightning.tuning.candidates import Candidate, searchable, varied

# How far levels move at first, and at least; as shares of the distance to their neighbours.
_SPREAD, _LEAST_SPREAD = 0.35, 0.04
# The spread grows with a success and shrinks with a failure, so as to stay where one of five succeeds.
_GROWTH, _SHRINKAGE = 1.5, 0.9


def search(
    begin: list[Candidate],
    measure: Callable[[Candidate], float],
    process: NoiseProcess,
    number: int,
    seed: int,
) -> Candidate:
    """Find a candidate of small error.

    An evolution strategy with a parent of each kind of sampler, whose spread follows the one-fifth rule
    (Rechenberg 1973). It is a function of its arguments and of what `measure` returns: repeated with the same
    measurements, it asks for the same candidates in the same order.

    Args:
        begin: what the search begins with, the best first.
        measure: the error of a candidate.
        process: what the levels are of.
        number: how many further candidates are measured.
        seed: of all that is drawn at random.

    Returns:
        The best of all that were measured, those at the beginning included.
    """
    random = np.random.default_rng(seed)
    best: dict[str, tuple[float, Candidate]] = {}
    for candidate in map(searchable, begin):
        error = measure(candidate)
        if candidate.kind not in best or error < best[candidate.kind][0]:
            best[candidate.kind] = (error, candidate)
    spreads = dict.fromkeys(best, _SPREAD)
    for turn in range(number):
        ranking = sorted(best, key=lambda kind: best[kind][0])
        # Three turns of four are the best kind's.
        kind = ranking[0] if turn % 4 else ranking[turn // 4 % len(ranking)]
        error, parent = best[kind]
        child = varied(parent, spreads[kind], process, random)
        found = measure(child)
        if found < error:
            best[kind] = (found, child)
            spreads[kind] *= _GROWTH
        else:
            spreads[kind] = max(spreads[kind] * _SHRINKAGE, _LEAST_SPREAD)
    return min(best.values(), key=lambda pair: pair[0])[1]
