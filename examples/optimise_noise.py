"""Search the initial noise whose sampled scene scores best: gradients through all of sampling.

    dfm data make-co3d demo/objects --train_scenes 1 --val_scenes 2 --test_scenes 1 --frames 16 --height 64 \\
        --width 64 --plain true
    python examples/optimise_noise.py --root demo/objects --colour 0.8 0.2 0.2 --output noise.png

Draws one scene from one image with the model that comes with the program, and changes its initial noise until the
scene, seen from a camera that the model was not given, has a mean colour as near as possible to the one wanted.
The score looks at the signal (a rendering of it); any other differentiable score of the field does as well. The
noise stays on the sphere that standard normal noise lies on, nearly, so that the model is never asked about noise
it does not know. Writes the views before and after, and prints the score at each iteration.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

import dfm_lightning
from datamodules.co3d import Co3DDataModule
from datamodules.posed.back_from_target import BackFromTarget
from dfm_lightning.callbacks.output.pictures import image_to_uint8, write_png
from dfm_lightning.randomness import named_noise
from dfm_lightning.types import Batch, select_views


def optimise(
    score: Callable[[Tensor], Tensor], noise: Float[Tensor, "b *o"], iterations: int, rate: float
) -> tuple[Float[Tensor, "b *o"], list[float]]:
    """Change noise by Adam so that a score of what is sampled from it rises; its norm stays as it is.

    Args:
        score: samples from noise, and scores the sample.
        noise: where to begin.
        iterations: number of steps.
        rate: their size, in standard deviations of the noise.

    Returns:
        The noise at its best, and the score at the beginning and after each step.
    """
    norm = noise.flatten(1).norm(dim=1).view(-1, *[1] * (noise.ndim - 1))
    best, scores = noise.clone(), []
    changed = noise.clone().requires_grad_()
    optimizer = torch.optim.Adam([changed], lr=rate)
    for iteration in range(iterations + 1):
        value = score(changed)
        scores.append(value.item())
        print(f"iteration {iteration}: score {scores[-1]:.5f}", flush=True)
        if scores[-1] == max(scores):
            best = changed.detach().clone()
        if iteration < iterations:
            (changed.grad,) = torch.autograd.grad(-value, [changed])
            optimizer.step()
            with torch.no_grad():
                length = changed.flatten(1).norm(dim=1).view_as(norm)
                changed.mul_(norm / length)
    return best, scores


def first_scene(root: str) -> Batch:
    """The first validation scene of a synthetic data set, in the demo's layout."""
    views = BackFromTarget(distance=(1, 8), novel_frames="anywhere")
    data = Co3DDataModule(root, "toy", views=views, target_scale=4.0, image_size=32, batch_size=1, workers=0)
    data.prepare_data()
    data.setup("validate")
    loader = data.val_dataloader()
    assert not isinstance(loader, list), "the data set has validation scenes"
    return next(iter(loader))


def main() -> None:
    """Optimise, and write what the scene looked like before and after."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--root", default="demo/objects")
    arguments.add_argument(
        "--colour", type=float, nargs=3, default=[0.8, 0.2, 0.2], help="red, green, blue; 0 to 1"
    )
    arguments.add_argument("--evaluations", type=int, default=6)
    arguments.add_argument("--iterations", type=int, default=10)
    arguments.add_argument("--rate", type=float, default=0.1)
    arguments.add_argument("--output", type=Path, default=Path("noise.png"))
    given = arguments.parse_args()
    model = dfm_lightning.load("co3d_demo", {"sampler.steps": given.evaluations})
    batch = first_scene(given.root)
    wanted = 2 * torch.tensor(given.colour) - 1

    def seen(noise: Tensor) -> Tensor:
        """The scene sampled from noise, from the target's camera and from the other one."""
        sample = model.sample_with_gradients(batch.context, batch.target.params, noise)
        other = model.forward_model(sample.signal, select_views(batch.novel.params, slice(1)))
        return torch.cat([sample.observation, other], dim=1)

    def score(noise: Tensor) -> Tensor:
        return -(seen(noise)[:, 1].mean(dim=(2, 3)) - wanted).square().sum(dim=1).mean()

    noise = named_noise([("noise", key) for key in batch.key], (1, 3, 32, 32), torch.device("cpu"))
    best, scores = optimise(score, noise, given.iterations, given.rate)
    with torch.no_grad():
        rows = [torch.cat(list(seen(each)[0]), dim=2) for each in (noise, best)]
    write_png(given.output, image_to_uint8(torch.cat(rows, dim=1)))
    print(f"score {scores[0]:.5f} before, {max(scores):.5f} at its best; upper row before, lower row after")


if __name__ == "__main__":
    main()
