"""One denoising evaluation with the context's share computed each time, and with it remembered, in turn.

    python benchmarks/context_memory.py                    # the MLPs of the paper's size, 12×12 rays
    python benchmarks/context_memory.py --size 64 --contexts 3

The radiance MLPs and the rendering are those of configs/co3d.yaml (width 512, 64 + 64 points); feature maps are
random, for the encoder's share is the same in both. Both run in turn in one process, so that other work on the
machine slows both: only the ratio counts. Operations are counted by PyTorch; the largest difference of images is
printed, and the standard deviation of their pixels beside it.
"""

import argparse
import statistics
import time

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dfm_lightning.denoisers.pixelnerf_field import PixelNeRFField, pixelnerf_field
from dfm_lightning.denoisers.remembered_context import ContextMemory, RememberingField
from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.geometry.cameras import build_cameras, look_at
from dfm_lightning.networks.radiance_mlp import RadianceMLP
from dfm_lightning.signals import RadianceField
from dfm_lightning.types import Cameras, concatenate, map_tensors, select_views

MAP, FEATURES, WIDTH = 64, 64, 512
ESTIMATE_FEATURES = 64


def cameras(views: int, size: int) -> Cameras:
    """Cameras on an arc around a point 4 ahead of the first, a batch of one."""
    angle = torch.arange(views) * 0.4
    position = torch.stack([4 * angle.sin(), torch.zeros(views), -4 * angle.cos()], dim=1)
    poses = look_at(position, torch.zeros(3), torch.tensor([0.0, -1.0, 0.0]))
    intrinsics = torch.tensor([[1.2, 0, 0.5], [0, 1.2, 0.5], [0, 0, 1]]).expand(views, 3, 3)
    return map_tensors(lambda t: t[None], build_cameras(poses, intrinsics, poses[0], size, size))


def steps(contexts: int, size: int, device: str) -> tuple[list[PixelNeRFField], Cameras]:
    """The fields of three steps, which differ in the noisy view, and the target's camera."""
    torch.manual_seed(0)
    coarse, fine = (RadianceMLP(FEATURES, WIDTH, ESTIMATE_FEATURES).to(device).eval() for _ in range(2))
    for mlp in (coarse, fine):
        # Not the identity that training begins with.
        for block in mlp.blocks:
            torch.nn.init.normal_(block.fc1.weight, std=0.02)
    where = map_tensors(lambda t: t.to(device), cameras(contexts + 1, size))
    parts = []
    for first, last, level in (
        (0, contexts, 0),
        *((contexts, contexts + 1, 900 - 300 * step) for step in range(3)),
    ):
        maps = torch.randn(1, last - first, MAP, MAP, FEATURES, device=device)
        levels = torch.full((1, last - first), level, device=device)
        parts.append(pixelnerf_field(coarse, fine, maps, select_views(where, slice(first, last)), levels, False))
    context, *targets = parts
    fields = [concatenate([context, target], dim=1) for target in targets]
    return fields, select_views(where, slice(contexts, contexts + 1))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=12, help="pixels along a side of the target")
    parser.add_argument("--contexts", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=float, default=4096, help="megabytes that may be kept")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    renderer = VolumeRendering(near=2.0, far=6.0, coarse_samples=64, fine_samples=64).eval()

    def run(field: RadianceField, camera: Cameras) -> tuple[Tensor, float]:
        if arguments.device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        image = renderer(field, camera)
        if arguments.device == "cuda":
            torch.cuda.synchronize()
        return image, time.perf_counter() - start

    titles = ["contexts", "time, plain / remembered (least to most)", "GFLOP, plain", "remembered"]
    titles += ["largest difference", "deviation"]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for contexts in arguments.contexts:
        with torch.no_grad():
            fields, camera = steps(contexts, arguments.size, arguments.device)
            memory = ContextMemory(int(arguments.memory * 2**20))
            renderer(RememberingField(fields[0], memory), camera)
            work = []
            for field in (fields[1], RememberingField(fields[1], memory)):
                with FlopCounterMode(display=False) as counted:
                    renderer(field, camera)
                work.append(counted.get_total_flops() / 1e9)
            ratios, difference = [], 0.0
            for number in range(arguments.rounds):
                field = fields[1 + number % 2]
                one, plain = run(field, camera)
                other, quick = run(RememberingField(field, memory), camera)
                ratios.append(plain / quick)
                difference = max(difference, float((one - other).abs().max()))
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        row = [
            contexts,
            spread,
            *(f"{flops:.1f}" for flops in work),
            f"{difference:.1e}",
            f"{float(one.std()):.2f}",
        ]
        print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
