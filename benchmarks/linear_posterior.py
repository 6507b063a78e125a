"""Small models of linear inverse problems against exact posteriors: InvFusion, Palette, operator-aware DFM.

    python benchmarks/linear_posterior.py --seconds 240 --threads 1

Trains each for so many seconds of CPU time on a Gaussian mixture over 4 × 4 pixels, with random matrices or random
masks and noise in the measurements, and prints the energy distance of its samples to exact ones, beside that of
the prior and of another set of exact ones (chance). Operator-aware DFM sees measurements alone: no image.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/diffusion/zero_shot"))

from known_problems import DATA, PRIOR, SHAPE, energy_distance

from dfm_lightning.denoisers import OperatorDenoiser
from dfm_lightning.diffusion import Heun, Karras, VarianceExploding
from dfm_lightning.forward_models.linear import (
    LinearMeasurements,
    LinearOperator,
    Matrices,
    OperatorLaw,
    Sensing,
    mask_operator,
    matrix_operator,
    sensing,
    whole_image,
)
from dfm_lightning.tasks import LinearInverseProblem
from dfm_lightning.types import Views, map_tensors

NOISE = 0.1
KINDS: dict[str, dict[str, Any]] = {
    "InvFusion": {},
    "Palette": {"joint": (False,)},
    "operator-aware DFM": {"targets": "measurements"},
}
PROBLEMS = {"masks": "mask_noisy", "matrices": "matrix_noisy"}
SAMPLES, BATCH = 1000, 128


class PixelMasks(OperatorLaw):
    """Masks that show each pixel with a probability of 3/8, the test problem's."""

    def draw(self, count: int, shape: tuple[int, int, int], generator: torch.Generator) -> LinearOperator:
        """See `OperatorLaw.draw`."""
        return mask_operator((torch.rand(count, 1, *shape[1:], generator=generator) < 0.375).float(), shape[0])


LAWS: dict[str, OperatorLaw] = {"masks": PixelMasks(), "matrices": Matrices((4, 6))}


def recent_average(average: Tensor, now: Tensor, count: Tensor) -> Tensor:
    """The average of weights over the last tenth of the steps."""
    return torch.lerp(average, now, 10 / (count + 10)) if average.is_floating_point() else now


def trained(kind: str, law: OperatorLaw, seconds: float) -> tuple[LinearInverseProblem, int]:
    """A model trained for so long, with the average of its last weights, and its number of steps."""
    torch.manual_seed(0)
    denoiser = OperatorDenoiser(
        **{"channels": 1, "patch": 4, "depths": (3,), "widths": (160,), "windows": (0,), "joint": (True,),
           "head_width": 16, "mapping_width": 64, **KINDS[kind]}
    )  # fmt: skip
    # (Narrower than for photographs: below a noise of 0.05 the data has no detail.)
    process = VarianceExploding(training_log_noise=(-0.5, 1.3))
    task = LinearInverseProblem(denoiser, process, Heun(32, spacing=Karras()))
    lossy = denoiser.targets == "measurements"
    maker = LinearMeasurements(law, NOISE, law if lossy else None)
    optimizer = torch.optim.Adam(task.parameters(), lr=2e-3, betas=(0.9, 0.99), fused=True)
    average = torch.optim.swa_utils.AveragedModel(task.denoiser, avg_fn=recent_average, use_buffers=True)
    generator, start, steps, spent = torch.Generator().manual_seed(1), time.process_time(), 0, 0.0
    while spent < seconds:
        # The rate falls along half a cosine, by the time that is left.
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 + torch.cos(torch.tensor(torch.pi * spent / seconds)).item())
        images = PRIOR.sample(BATCH, generator).float().view(-1, *SHAPE)
        batch = maker.problems(images, torch.zeros(BATCH, dtype=torch.long), ["x"] * BATCH, generator)
        optimizer.zero_grad()
        task.losses(batch)["target"].value.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(task.denoiser)
        steps, spent = steps + 1, time.process_time() - start
    task.denoiser.load_state_dict(average.module.state_dict())
    return task, steps


def test_context(name: str) -> Views:
    """The recorded problem; a mask as a mask."""
    problem = DATA["problems"][PROBLEMS[name]]
    rows, measurement = problem["A"].float(), problem["y"].float()
    if name == "masks":
        operator: Any = mask_operator((rows.sum(0) != 0).float().view(1, 1, *SHAPE[1:]), 1)
        seen = (rows.T @ measurement).view(1, 1, *SHAPE)
    else:
        # As many rows as in training, the others of zeros.
        operator = matrix_operator(torch.cat([rows, torch.zeros(1, 16)]).view(1, 6, *SHAPE))
        seen = torch.cat([measurement, torch.zeros(1)]).view(1, 1, 6, 1, 1)
    params = Sensing(
        map_tensors(lambda t: t[:, None], operator), torch.full((1, 1), NOISE), torch.full((1, 1), -1)
    )
    return Views(seen, params)


def distance(task: LinearInverseProblem, name: str) -> float:
    """Energy distance of samples to exact ones."""
    params = sensing(whole_image((1, 1, *SHAPE)), (1, 1))
    names = [("benchmark", number) for number in range(SAMPLES)]
    found: Tensor = task.sample(test_context(name), params, names, SHAPE).signal
    return energy_distance(found.flatten(1).double(), DATA["posteriors"][PROBLEMS[name]]["samples"].double())


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="CPU time of each training")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--models", nargs="+", choices=KINDS, default=list(KINDS))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(3)
    for name in arguments.problems:
        exact = DATA["posteriors"][PROBLEMS[name]]["samples"].double()
        prior = PRIOR.sample(SAMPLES, generator)
        print(f"{name}: chance {energy_distance(exact[:1000], exact[1000:]):.4f}, "
              f"prior {energy_distance(prior, exact):.3f}", flush=True)  # fmt: skip
        for kind in arguments.models:
            task, steps = trained(kind, LAWS[name], arguments.seconds)
            size = sum(parameter.numel() for parameter in task.denoiser.parameters())
            print(f"  {kind}: {distance(task, name):.4f} ({steps} steps, {size:,} parameters)", flush=True)


if __name__ == "__main__":
    main()
