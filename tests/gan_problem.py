"""A small GAN-inversion problem with a random generator, for tests."""

from pathlib import Path

import torch

from dfm_lightning.denoisers import PatchToCode
from dfm_lightning.diffusion import DDIM
from dfm_lightning.forward_models import ImageGeneration
from dfm_lightning.networks.stylegan2.architecture import Architecture
from dfm_lightning.networks.stylegan2.generator import Generator
from dfm_lightning.networks.stylegan2.storage import write_generator
from dfm_lightning.optimizers import AdamWithWarmup
from dfm_lightning.tasks import GANInversion


def write_small_generator(path: Path, seed: int = 0) -> str:
    """A generator of 32 pixels with random weights, its codes not centred at zero."""
    torch.manual_seed(seed)
    generator = Generator(Architecture(5, 6, (8, 8, 6, 4), (8, 6), mapping_lr_multiplier=1.0))
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.05)
        if "mapping" in name and name.endswith("bias"):
            parameter.data.normal_()
    with torch.no_grad():
        z = torch.randn(500, 5)
        generator.mapping.mean_code.copy_(generator.mapping(z, z[:, :0]).mean(dim=0))
    write_generator(generator, path)
    return str(path)


def small_task(generator: str, layers: int = 1, samples: int = 3) -> GANInversion:
    """The task with a tiny network; what is zero before training is filled, so that samples differ."""
    torch.manual_seed(1)
    denoiser = PatchToCode(code_width=6, layers=layers, width=16, depth=1, heads=2, patch=4)
    for parameter in denoiser.network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return GANInversion(
        denoiser,
        ImageGeneration(generator),
        sampler=DDIM(steps=2),
        optimizer=AdamWithWarmup(learning_rate=1e-2, warmup_steps=0),
        samples=samples,
    )
