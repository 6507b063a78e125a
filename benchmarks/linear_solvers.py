"""Zero-shot solvers on drawn faces, with settings to be chosen on validation faces.

    python benchmarks/linear_solvers.py DPS scale=1 steps=250 --faces 4
    python benchmarks/linear_solvers.py DPS scale=1 steps=250 --faces 4 --test

Measures faces by patches, strided motion blurs and matrices, without noise, an operator for each face, and
solves them with the model that comes with the program, told that nothing was measured; `none` is its own
sampler, told all. Prints the mean PSNR of one image a face and the consistency (root mean square of A x − y),
with standard errors over faces, and the CPU time. The test faces are those of `dfm test --config
linear_faces_demo.yaml`, the validation faces the last that were held out from training.
"""

import argparse
import time
from typing import Any

import torch
import yaml
from torch import Tensor

from datamodules.linear_images import DrawnImages
from dfm_lightning import load
from dfm_lightning.diffusion import zero_shot
from dfm_lightning.forward_models.linear import (
    LinearMeasurements,
    Matrices,
    OperatorLaw,
    PatchMasks,
    StridedMotionBlurs,
    one_a_view,
)
from dfm_lightning.metrics import psnr
from dfm_lightning.networks.stylegan2.sampling import GeneratorSamples
from dfm_lightning.types import Batch, map_tensors

LAWS: dict[str, OperatorLaw] = {"patches": PatchMasks(), "blur": StridedMotionBlurs(), "matrix": Matrices()}
SIZE, HELD_OUT = (3, 32, 32), 256


def problem(law: OperatorLaw, source: DrawnImages, number: int) -> Batch:
    """A face's measurement, by an operator of its own."""
    image = source.read(number, SIZE[1]).image[None]
    generator = torch.Generator().manual_seed(number)
    batch = LinearMeasurements(law).problems(image, torch.tensor([-1]), [str(number)], generator)
    return batch._replace(truth={"image": image})


def estimate(values: list[float]) -> str:
    """Mean and standard error."""
    each = torch.tensor(values)
    return f"{each.mean():.3g} ± {each.std() / len(each) ** 0.5:.2g}"


def main() -> None:
    """Solve and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("solver", help="a class of dfm_lightning.diffusion.zero_shot, or none")
    parser.add_argument("settings", nargs="*", help="its arguments, name=value")
    parser.add_argument("--model", default="linear_faces_demo")
    parser.add_argument("--faces", type=int, default=4)
    parser.add_argument("--test", action="store_true", help="test faces in place of validation faces")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = load(given.model)
    if given.solver != "none":
        settings: dict[str, Any] = {k: yaml.safe_load(v) for k, v in (s.split("=") for s in given.settings)}
        model.solver = getattr(zero_shot, given.solver)(**settings)
    source = DrawnImages(GeneratorSamples("drawn_faces", truncation=1.0))
    numbers = range(given.faces) if given.test else range(HELD_OUT - given.faces, HELD_OUT)
    for kind, law in LAWS.items():
        start, quality, residuals = time.process_time(), [], []
        for number in numbers:
            batch = problem(law, source, number)
            context = batch.context
            found: Tensor = model.sample(context, batch.target.params, [(str(number), 0)], SIZE).signal
            operator = map_tensors(torch.clone, one_a_view(context.params.operator))
            residual = operator.apply(found) - context.observation[:, 0]
            quality.append(float(psnr(found, batch.truth["image"])))
            residuals.append(float(residual.square().mean().sqrt()))
        spent = (time.process_time() - start) / len(numbers)
        print(f"{' '.join([given.solver, *given.settings])}, {kind}: PSNR {estimate(quality)} dB, "
              f"consistency {estimate(residuals)}, {spent:.1f} s an image", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
