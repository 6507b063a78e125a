"""Time and memory of SparseFusion at the thesis' size: its parts once each, and what a scene of them takes.

    python benchmarks/sparsefusion.py [--device cuda]

The parts are those of configs/sparsefusion_co3d.yaml and sparsefusion_distil.yaml: 256 pixels, two context views,
EFT with features of 32×32 rays, a U-Net of 400 million parameters, Stable Diffusion's autoencoder, renderings of
128×128. Weights are random; VGG's too, for LPIPS' time does not depend on them. Each part runs in a process of its
own, once to warm up and once measured: the processor's seconds of one thread (other work on the machine counts
less than on the clock, but does slow caches), on a GPU the clock's. Memory is the peak of the process, weights and
libraries included; on a GPU what PyTorch allocated. An iteration and a scene are products of measured parts, and
are said to be.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext

import lpips
import torch
from torch import Tensor

from dfm_lightning.diffusion import denoising_steps
from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.geometry.cameras import build_cameras, look_at
from dfm_lightning.networks.epipolar import EpipolarTransformer
from dfm_lightning.networks.grid_field import GridField
from dfm_lightning.networks.latent_codec import StableDiffusionCodec
from dfm_lightning.networks.latent_unet import LatentUNet
from dfm_lightning.tasks import Distillation, EpipolarViews
from dfm_lightning.types import Cameras, Views, map_tensors, select_views

SIZE, CONTEXTS, RAYS = 256, 2, 32
# A rendering has 128×128 rays, of which a sixteenth is measured.
RENDERED, SHARES = 32, 16
RAYS_AT_ONCE = 2048
Part = Callable[[str], Callable[[], object]]


def cameras(count: int, size: int, device: str) -> Cameras:
    """Cameras around the origin, 8 away from it."""
    angle = torch.arange(count) * 0.7
    away = 8 * torch.stack([angle.cos(), angle.sin(), 0.3 + 0 * angle], dim=1)
    poses = look_at(away, torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]))
    intrinsics = torch.tensor([[2.0, 0, 0.5], [0, 2.0, 0.5], [0, 0, 1]]).expand(count, 3, 3)
    made = build_cameras(poses, intrinsics, torch.eye(4), size, size)
    return map_tensors(lambda t: t[None].float().to(device), made)


def eft(device: str, rays: int) -> Callable[[], object]:
    """The pyramid of two context views, and rays of one query view."""
    model = EpipolarViews(EpipolarTransformer(), rays=RAYS).to(device).eval()
    seen = cameras(CONTEXTS + 1, SIZE, device)
    context = Views(torch.rand(1, CONTEXTS, 3, SIZE, SIZE, device=device), select_views(seen, slice(CONTEXTS)))
    pixels = torch.rand(1, rays, 2, device=device)
    return lambda: model.features(model.transformer.encode(context), seen, CONTEXTS, pixels)


def pyramid(device: str) -> Callable[[], object]:
    """The pyramid of two context views."""
    model = EpipolarTransformer().pyramid.to(device).eval()
    images = torch.rand(CONTEXTS, 3, SIZE, SIZE, device=device)
    return lambda: model(images)


def unet(device: str) -> Callable[[], object]:
    """The noise in the latents of one view."""
    model = LatentUNet().to(device).eval()
    noisy, condition = torch.randn(1, 4, RAYS, RAYS), torch.randn(1, model.condition_channels, RAYS, RAYS)
    given = [part.to(device) for part in (noisy, condition, torch.zeros(1))]
    return lambda: model(*given)


def encode(device: str) -> Callable[[], object]:
    """Latents of a rendering, and the gradient back to it."""
    codec = StableDiffusionCodec().to(device).eval()
    image = torch.rand(1, 3, SIZE, SIZE, device=device, requires_grad=True)
    return lambda: with_gradient(lambda: codec.encode(image))


def decode(device: str) -> Callable[[], object]:
    """The image of latents."""
    codec = StableDiffusionCodec().to(device).eval()
    latents = torch.randn(1, 4, RAYS, RAYS, device=device)
    return lambda: codec.decode(latents)


def perceptual(device: str) -> Callable[[], object]:
    """LPIPS of two images, and its gradient."""
    network = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False).to(device).requires_grad_(False)
    image, target = (torch.rand(1, 3, SIZE, SIZE, device=device) for _ in range(2))
    image.requires_grad_()
    return lambda: with_gradient(lambda: network(image, target))


def render(device: str) -> Callable[[], object]:
    """A sixteenth of a rendering of the field, and the gradient of the field."""
    field = GridField().to(device)
    renderer = VolumeRendering(0.1, 100.0, 64, 64, checkpointing=True).train()
    camera = cameras(1, RENDERED, device)
    return lambda: with_gradient(lambda: renderer.observe(field, camera).observation)


def with_gradient(run: Callable[[], Tensor]) -> None:
    """Run forwards and backwards."""
    with torch.enable_grad():
        run().sum().backward()


PARTS: dict[str, Part] = {
    "pyramid of two context views": pyramid,
    "EFT: features of one view (pyramid, 32×32 rays)": lambda device: eft(device, RAYS**2),
    f"EFT: pyramid and {RAYS_AT_ONCE} rays": lambda device: eft(device, RAYS_AT_ONCE),
    "U-Net: one step of one view": unet,
    "autoencoder: encode, with gradient": encode,
    "autoencoder: decode": decode,
    "LPIPS, with gradient": perceptual,
    "a sixteenth of a rendering, with gradient": render,
}


def measure(name: str, device: str) -> tuple[float, float]:
    """Run a part twice in this process; seconds of the second run, and the peak of memory in GiB."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    clock = time.perf_counter if device == "cuda" else time.process_time
    with torch.no_grad():
        run = PARTS[name](device)
        run()
        wait = torch.cuda.synchronize if device == "cuda" else nullcontext
        wait()
        start = clock()
        run()
        wait()
        took = clock() - start
    if device == "cuda":
        return took, torch.cuda.max_memory_allocated() / 2**30
    return took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def mean_predictions(settings: Distillation) -> float:
    """Mean number of the U-Net's evaluations of an iteration, over all times: one more than steps."""
    times = ((torch.arange(10000, dtype=torch.float64) + 0.5) / 10000).clamp(max=settings.last_time)
    return sum(denoising_steps(time, settings.most_steps) + 1 for time in times.tolist()) / len(times)


def main() -> None:
    """Measure all parts, and print what they make together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--part", choices=PARTS, help="this one alone")
    arguments = parser.parse_args()
    if arguments.part:
        print(*measure(arguments.part, arguments.device))
        return
    took: dict[str, float] = {}
    print("measured:")
    for name in PARTS:
        command = [sys.executable, __file__, "--device", arguments.device, "--part", name]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
        took[name], memory = float(answer[-2]), float(answer[-1])
        print(f"  {name:50} {took[name]:9.2f} s {memory:7.2f} GiB", flush=True)
    context, features, rays, step, encoded, decoded, distance, rendering = took.values()
    settings = Distillation()
    chunks, predictions = SIZE**2 / RAYS_AT_ONCE, mean_predictions(settings)
    image = context + chunks * (rays - context)
    sample = features + 500 * step + decoded
    early = 2 * SHARES * rendering
    iteration = early + encoded + predictions * step + decoded + distance
    ring = context + settings.ring_cameras * (features - context)
    later = settings.iterations - settings.bootstrap
    scene = ring + settings.bootstrap * early + later * iteration
    print("products of these:")
    print(f"  EFT: one image of 256×256 ({chunks:.0f} pieces of rays)            {image:9.1f} s")
    print(f"  one view sampled in 500 steps                      {sample:9.1f} s")
    print(f"  an iteration of the bootstrap (two renderings)     {early:9.2f} s")
    print(f"  an iteration of mode seeking ({predictions:.1f} U-Net steps)     {iteration:9.1f} s")
    counts = f"{settings.ring_cameras} cameras, {settings.bootstrap} + {later} iterations"
    print(f"  a scene ({counts})    {scene / 3600:9.1f} h")


if __name__ == "__main__":
    main()
