"""Distillation: what is taught is what DDIM of the teacher does; a student comes nearer than its teacher."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parents[1] / "tuning"))

from exact_model import Exact, Identity, exact_model
from small_volumes import model_of

from dfm_lightning.callbacks import ProgressiveDistillation
from dfm_lightning.callbacks.distillation import Teacher, way
from dfm_lightning.diffusion import DDIM, CosineProcess, GivenLevels, LogSNR, NoiseProcess, Quadratic, UniPC
from dfm_lightning.diffusion.gradients import refuse_noise
from dfm_lightning.errors import UserError
from dfm_lightning.interfaces import SignalDenoiser
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.types import Batch, Level, LossTerm, Views

PROCESS = CosineProcess()


def batch_of(count: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def views(number: int) -> Views:
        return Views(torch.randn(count, number, 3, 1, 1, generator=generator), torch.zeros(count, number))

    return Batch(views(1), views(1), views(2), [str(row) for row in range(count)], {})


def exact() -> Exact:
    denoiser = Exact()
    denoiser.use_process(PROCESS)
    return denoiser


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_one_taught_step_leads_to_where_the_teachers_steps_do(steps: int) -> None:
    levels = Quadratic().levels(5, PROCESS)
    teacher = Teacher(exact(), Identity(), PROCESS, levels, steps)
    for place, level in enumerate(levels):
        batch = batch_of(6, place)
        noisy = torch.randn(6, 1, 3, 1, 1, generator=torch.Generator().manual_seed(place))
        taught = teacher.taught(batch, noisy, torch.full((6,), int(level)))
        # The teacher's own steps, by the sampler.
        visited = way(level, [*levels, -1][place + 1], steps, PROCESS)
        sampler = DDIM(len(visited) - 1, spacing=GivenLevels(visited[:-1]))
        estimates: list[Tensor] = []

        def denoise(given: Tensor, told: Level, kept: list[Tensor] = estimates) -> Tensor:
            kept.append(exact()(given, told, None)[:, None, :, None, None])
            return kept[-1]

        points = [*sampler.sample(denoise, noisy, PROCESS, refuse_noise)]
        following = visited[-1]
        if following < 0:
            torch.testing.assert_close(taught.target.observation, points[-1].noisy, rtol=0, atol=1e-5)
        else:  # one more step of the sampler, to the level where the student goes on
            longer = DDIM(len(visited), spacing=GivenLevels(visited))
            expected = [*longer.sample(denoise, noisy, PROCESS, refuse_noise)][-2].noisy

            def told_estimate(given: Tensor, told: Level, clean: Tensor = taught.target.observation) -> Tensor:
                return clean

            once = DDIM(2, spacing=GivenLevels([level, following]))
            found = next(iter(once.sample(told_estimate, noisy, PROCESS, refuse_noise))).noisy
            torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
        last = estimates[steps - 1]
        torch.testing.assert_close(taught.novel.observation, last.expand(-1, 2, -1, -1, -1), rtol=0, atol=1e-6)
        assert taught.context is batch.context


@pytest.mark.parametrize("process", [CosineProcess(), CosineProcess(250)])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_way_falls_from_level_to_level(process: NoiseProcess, steps: int) -> None:
    levels = LogSNR(last=4).levels(8, process)
    for start, end in zip(levels, [*levels[1:], -1], strict=True):
        found = way(start, end, steps, process)
        assert len(found) == steps + 1
        assert (found[0], found[-1]) == (start, end)
        assert found == sorted(found, reverse=True)
        assert all(isinstance(level, int) for level in found)


def test_levels_are_those_that_the_student_visits() -> None:
    teacher = Teacher(exact(), Identity(), PROCESS, [900, 400, 30], 2)
    torch.manual_seed(0)
    drawn = teacher.levels(3000, torch.device("cpu"))
    assert drawn.unique().tolist() == [30, 400, 900]
    assert drawn.unique(return_counts=True)[1].min() > 850


class Line(SignalDenoiser):
    """A signal that is a multiple of what is noisy, with a factor for each of some levels."""

    def __init__(self, levels: int = 1000) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.linspace(1.0, 0.1, levels))

    def condition(self, context: Views, target_params: Any) -> Any:
        return context.observation

    def forward(self, noisy: Tensor, level: Level, conditioning: Any) -> Tensor:
        return self.factor[level][:, None] * noisy.flatten(1)


def student(steps: int = 2) -> DiffusionWithForwardModel:
    return DiffusionWithForwardModel(Line(), Identity(), sampler=DDIM(steps, spacing=Quadratic()))


def fitted(model: DiffusionWithForwardModel, steps: int, folder: Path, resume: str | None = None) -> Any:
    callback = ProgressiveDistillation()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    items = [
        Batch(*(Views(*(part[0] for part in views)) for views in batch_of(1, row)[:3]), key=str(row), truth={})
        for row in range(8)
    ]
    trainer.fit(model, DataLoader(items, batch_size=4), ckpt_path=resume)
    trainer.save_checkpoint(folder / f"{steps}.ckpt")
    return callback


def test_a_continued_training_keeps_its_teacher(tmp_path: Path) -> None:
    model = student()
    before = model.denoiser.factor.detach().clone()
    first = fitted(model, 2, tmp_path)
    assert not torch.equal(model.denoiser.factor, before)
    assert model.teaching is None
    later = fitted(student(), 4, tmp_path, str(tmp_path / "2.ckpt"))
    for callback in (first, later):
        assert torch.equal(callback.state_dict()["teacher"]["factor"], before)


def test_a_model_that_is_taught_its_own_steps_has_nothing_to_learn() -> None:
    model = exact_model(DDIM(4, spacing=Quadratic())).train()
    levels = model.sampler.levels(model.process)[:-1]
    model.teaching = Teacher(exact(), Identity(), model.process, levels, 1)
    torch.manual_seed(0)
    with torch.no_grad():
        own = [model.losses(scene()) for _ in range(8)]
        model.teaching = Teacher(exact(), Identity(), model.process, levels, 2)
        further = [model.losses(scene()) for _ in range(8)]
    for losses in own:
        assert {name: term.value.item() for name, term in losses.items()} == pytest.approx(
            {"target": 0, "novel": 0}, abs=1e-9
        )
    assert max(losses["target"].value.item() for losses in further) > 1e-4


class Spy(Teacher):
    """Keeps what it is given, and the last batch it taught."""

    def taught(self, batch: Batch, noisy: Tensor, level: Level) -> Batch:
        self.noisy = noisy
        self.last = super().taught(batch, noisy, level)
        return self.last


def test_training_noise_is_as_weak_as_sampling_noise() -> None:
    model = exact_model(DDIM(4, temperature=0.3, spacing=Quadratic())).train()
    callback = ProgressiveDistillation()
    callback.on_fit_start(Trainer(accelerator="cpu", logger=False, enable_checkpointing=False), model)
    assert model.teaching is not None
    assert model.teaching.temperature == 0.3
    for temperature in (0.3, 1.0):
        spy = model.teaching = Spy(exact(), Identity(), model.process, [950], 2, temperature)
        batch = batch_of(4000)
        with torch.no_grad():
            model.denoise_noised(batch)
        signal_rate, noise_rate = model.process.exact_rates(950)
        noise = (spy.noisy - signal_rate * batch.target.observation) / noise_rate
        assert noise.std().item() == pytest.approx(temperature, rel=0.03)


class OwnLoss(Line):
    """Compares what it is told to be the target with zero."""

    def auxiliary_losses(self, batch: Batch, level: Level, conditioning: Any, signal: Any) -> dict[str, LossTerm]:
        return {"own": LossTerm(batch.target.observation.square().mean(), 1.0)}


def test_a_denoisers_own_losses_compare_with_the_teacher() -> None:
    model = DiffusionWithForwardModel(OwnLoss(), Identity(), sampler=DDIM(2, spacing=Quadratic()))
    spy = model.teaching = Spy(Line(), Identity(), model.process, model.sampler.levels(model.process)[:-1], 2)
    batch = batch_of(6)
    own = model.losses(batch)["own"].value
    assert own == spy.last.target.observation.square().mean()
    assert own != batch.target.observation.square().mean()


def scene() -> Batch:
    """One scene: the exact denoiser is asked at one level at a time."""
    return batch_of(1, 7)


def test_other_samplers_are_refused(tmp_path: Path) -> None:
    model = student()
    for sampler in (UniPC(4), DDIM(4, eta=1.0)):
        model.sampler = sampler
        with pytest.raises(UserError, match="DDIM"):
            fitted(model, 1, tmp_path)


def test_further_noises_of_the_target_are_refused(tmp_path: Path) -> None:
    """The student's target is what the teacher makes of a noisy one: it is not clean."""
    model = model_of(image_noises=2)
    model.sampler = DDIM(4)
    with pytest.raises(UserError, match="image_noises"):
        ProgressiveDistillation().on_fit_start(Trainer(logger=False, default_root_dir=tmp_path), model)
