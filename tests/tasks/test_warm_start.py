"""The two stages of a warm start: the same weights from one process and from two, and from a resumed training."""

from pathlib import Path

import pytest
import torch
from ball_scenes import batch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from several_processes import strategy
from torch import Tensor

from dfm_lightning.callbacks import ProgressiveDistillation
from dfm_lightning.denoisers import PixelNeRFDenoiser
from dfm_lightning.diffusion import DDIM, CosineProcess
from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.networks.image_encoder import ImageEncoder
from dfm_lightning.optimizers import AdamWithWarmup
from dfm_lightning.tasks import InverseGraphics
from dfm_lightning.types import Level

WARM_START, STEPS = 4, 9
KEYS = ["a", "b"]


class WithoutChance(CosineProcess):
    """One level for every scene, and no noise: what is drawn depends on the process, as it should."""

    def training_levels(self, batch: int, generator: torch.Generator | None = None) -> Level:
        return torch.full((batch,), 300)

    def add_noise(self, clean: Tensor, noise: Tensor, level: Level) -> Tensor:
        return super().add_noise(clean, torch.zeros_like(noise), level)


class Scenes(LightningDataModule):
    """The same scenes at every step, shared out between the processes."""

    def train_dataloader(self) -> torch.utils.data.DataLoader:
        share = KEYS[self.trainer.global_rank :: self.trainer.world_size]
        return torch.utils.data.DataLoader([batch(share)] * STEPS, batch_size=None)


def task() -> InverseGraphics:
    torch.manual_seed(0)
    encoder = ImageEncoder(16, 1, 2, 6, 3, 5, 4)
    rendering = {"near": 0.5, "far": 4.0, "coarse_samples": 6, "jitter": False, "patch_size": 8}
    # Without fine samples: the fine MLP has no part in any loss.
    renderer = VolumeRendering(**rendering, fine_samples=0)
    denoiser = PixelNeRFDenoiser(encoder, renderer, mlp_width=8, octaves=2)
    return InverseGraphics(
        denoiser, renderer, WithoutChance(), optimizer=AdamWithWarmup(1e-2, warmup_steps=3),
        warm_start_steps=WARM_START, random_context_views=False,
    )  # fmt: skip


def trained(
    processes: int = 1,
    steps: int = STEPS,
    resume: Path | None = None,
    save: Path | None = None,
    distilled: bool = False,
) -> InverseGraphics:
    model = task()
    teaching = [ProgressiveDistillation()] if distilled else []
    if distilled:
        model.sampler = DDIM(2)
    saving = [ModelCheckpoint(save, every_n_train_steps=1, save_top_k=-1, filename="{step}")] if save else []
    trainer = Trainer(
        accelerator="cpu", devices=processes, strategy=strategy(processes), logger=False,
        use_distributed_sampler=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=bool(saving), callbacks=[*saving, *teaching], max_steps=steps,
    )  # fmt: skip
    trainer.fit(model, datamodule=Scenes(), ckpt_path=resume)
    return model


def test_the_parts_train_in_their_stages() -> None:
    start, warm, end = task().denoiser, trained(steps=WARM_START).denoiser, trained().denoiser
    same = [
        {name for name, value in start.state_dict().items() if torch.equal(value, other.state_dict()[name])}
        for other in (warm, end)
    ]
    assert "coarse_mlp.output.bias" in same[0]
    assert "encoder.target_stem.weight" in same[0]
    assert "deterministic_mlp.output.bias" not in same[0]
    assert not any("coarse_mlp" in name and "modulations" not in name for name in same[1])
    for name, value in warm.deterministic_mlp.state_dict().items():
        torch.testing.assert_close(end.fine_mlp.state_dict()[name], value, msg=f"{name} was not adopted")


def test_a_student_has_no_warm_start() -> None:
    start = task().denoiser.state_dict()
    one, end = (trained(steps=steps, distilled=True).denoiser for steps in (1, WARM_START + 1))
    assert not torch.equal(one.state_dict()["coarse_mlp.output.bias"], start["coarse_mlp.output.bias"])
    # Nothing is taken over where a warm start would have ended.
    for name, value in end.deterministic_mlp.state_dict().items():
        if name.endswith("weight") and value.dim() == 2:
            assert not torch.allclose(end.fine_mlp.state_dict()[name], value), name


def test_a_resumed_training_is_an_uninterrupted_one(tmp_path: Path) -> None:
    expected = trained(save=tmp_path).state_dict()
    for cut in (WARM_START - 2, WARM_START, WARM_START + 2):
        resumed = trained(resume=tmp_path / f"step={cut}.ckpt").state_dict()
        assert all(torch.equal(resumed[name], value) for name, value in expected.items()), f"cut after {cut}"


@pytest.mark.slow
def test_two_processes_train_the_weights_that_one_trains() -> None:
    """Of the same batch. Two give each other a gradient of every parameter, of idle ones too: of zero."""
    one, two = (trained(processes).state_dict() for processes in (1, 2))
    for name, value in one.items():
        same = torch.ones_like(value, dtype=torch.bool)
        if name.endswith("attn.qkv.bias"):
            # The softmax cancels the keys' biases: Adam steps by the sign of what rounding leaves of their slope.
            same.chunk(3)[1].zero_()
        torch.testing.assert_close(
            two[name][same], value[same], rtol=1e-4, atol=2e-5, msg=lambda text, n=name: f"{n}: {text}"
        )
