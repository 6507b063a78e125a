"""What ways to treat holes do to a motion: a small model is trained with each on one image with two futures.

A textured disc in front of a texture goes two pixels to the left or to the right. For each way: how far the disc's
flow goes at almost no noise (the truth is 2), how long the flow is elsewhere (0, apart from the disc's soft edge),
and how 64 samples fall to the two sides.

    python benchmarks/motion_holes.py [--steps 450]
"""

import argparse

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.denoisers import ImageToMotion
from dfm_lightning.diffusion import DDIM
from dfm_lightning.forward_models import ImageWarping
from dfm_lightning.forward_models.image_warping import HoleFilling
from dfm_lightning.tasks import MotionObjective, MotionPrediction
from dfm_lightning.types import Batch, Moment, Views

SIZE, BATCH, WAY = 16, 16, 2.0
LOW_LEVEL = 50


def disc(way: float) -> Float[Tensor, "3 16 16"]:
    """The image when the disc has gone some way to the right."""
    y, x = torch.meshgrid(torch.arange(float(SIZE)), torch.arange(float(SIZE)), indexing="ij")
    part = torch.sigmoid(7 - 2 * torch.hypot(x - 7.5 - way, y - 7.5))
    front = torch.stack([1 + 0.3 * torch.sin(0.8 * (x - way)), 0.8 + 0.3 * torch.sin(0.8 * y), 0 * x])
    return -0.5 + part * front + (1 - part) * 0.2 * torch.sin(0.5 * x + 0.3 * y)


def views(frames: Float[Tensor, "b v 3 h w"], time: float) -> Views:
    """Frames as views of the image, warped to a time."""
    image = disc(0).expand(*frames.shape[:2], -1, -1, -1)
    return Views(frames, Moment(image, torch.full(frames.shape[:2], time)))


def trained(holes: HoleFilling, hole_weight: float, importance: bool, steps: int) -> MotionPrediction:
    """A model trained for so many iterations."""
    torch.manual_seed(0)
    model = MotionPrediction(
        ImageToMotion(width=32, depth=2, heads=2, patch=4, importance=importance),
        ImageWarping(holes),
        sampler=DDIM(20),
        objective=MotionObjective(hole_weight=hole_weight, smoothness_weight=0.002, edge_strength=10.0),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    futures, context = torch.stack([disc(-WAY), disc(WAY)]), disc(0).expand(BATCH, 1, -1, -1, -1)
    for _ in range(steps):
        target = futures[torch.randint(2, (BATCH,))][:, None]
        batch = Batch(views(context, 0.0), views(target, 1.0), views(target[:, :0], 0.5), ["disc"] * BATCH, {})
        loss = torch.stack([term.value * term.weight for term in model.losses(batch).values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


@torch.no_grad()
def measure(model: MotionPrediction) -> list[str]:
    """The columns of the table."""
    middle = disc(0)[0] > 0.2
    ways = torch.tensor([-WAY, WAY]).repeat(BATCH)
    targets = torch.stack([disc(float(way)) for way in ways])[:, None]
    level = torch.full((len(ways),), LOW_LEVEL)
    noisy = model.process.add_noise(targets, torch.randn_like(targets), level)
    context = views(disc(0).expand(len(ways), 1, -1, -1, -1), 0.0)
    flow = model.denoiser(noisy, level, model.denoiser.condition(context, views(targets, 1.0).params)).flow
    along = (flow[:, 0, middle].mean(dim=1) * ways.sign()).mean()
    elsewhere = flow.norm(dim=1)[:, ~middle].mean()
    names: list[tuple[str | int, ...]] = [("disc", number) for number in range(64)]
    one = views(disc(0)[None, None], 1.0)
    drawn = model.sample(one, one.params, names, (3, SIZE, SIZE)).signal.flow[:, 0, middle].mean(dim=1)
    left, right = ((drawn * sign > WAY / 4).float().mean() for sign in (-1, 1))
    return [f"{along:.2f}", f"{elsewhere:.2f}", f"{left:.0%}", f"{right:.0%}"]


def main() -> None:
    """Print one row for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=450)
    steps = parser.parse_args().steps
    print("| holes | weight of holes | importance | disc's flow | flow elsewhere | left | right |")
    print("|---|---|---|---|---|---|---|")
    ways: list[tuple[HoleFilling, float, bool]] = [
        ("still", 1.0, True), ("blank", 1.0, True), ("backward", 1.0, True), ("blank", 0.0, True),
        ("backward", 0.0, True), ("backward", 1.0, False),
    ]  # fmt: skip
    for holes, weight, importance in ways:
        cells = measure(trained(holes, weight, importance, steps))
        print("| " + " | ".join([holes, f"{weight:g}", "yes" if importance else "no", *cells]) + " |", flush=True)


if __name__ == "__main__":
    main()
