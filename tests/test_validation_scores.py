"""What validation says beside the losses: by noise level, and whether the noisy target is used at all."""

from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dfm_lightning.interfaces import ForwardModel, SignalDenoiser
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.types import Batch, Views
from dfm_lightning.validation import EXCHANGED, TargetUse, scores_of


class Same(ForwardModel):
    def forward(self, signal: Tensor, params: Tensor) -> Tensor:
        return signal[:, None].expand(-1, params.shape[1], -1, -1, -1)


class Guess(SignalDenoiser):
    """Predicts nothing, or the noisy target."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.tensor(share))

    def condition(self, context: Views, target_params: Tensor) -> Tensor:
        return context.observation

    def forward(self, noisy: Tensor, level: Tensor, conditioning: Tensor) -> Tensor:
        return self.share * noisy[:, 0]


class Data(LightningDataModule):
    def __init__(self, batch_size: int, count: int = 24) -> None:
        super().__init__()
        self.size, self.count = batch_size, count

    def val_dataloader(self) -> DataLoader:
        values = torch.randn(self.count, 1, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 3
        none = torch.zeros(0)
        items = [
            Batch(Views(v[:0], none), Views(v, torch.zeros(1)), Views(v[:0], none), f"{i}", {})
            for i, v in enumerate(values)
        ]
        return DataLoader(items, batch_size=self.size)


def validated(share: float, batch_size: int = 5, count: int = 24) -> dict[str, float]:
    model = DiffusionWithForwardModel(Guess(share), Same())
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    (found,) = Trainer(accelerator="cpu", **quiet).validate(model, Data(batch_size, count), verbose=False)
    return dict(found)


def test_a_denoiser_that_ignores_its_target_has_a_ratio_of_one_and_no_levels_that_are_harder() -> None:
    ignorant = validated(0.0, count=90)
    assert ignorant["val/exchanged_target_ratio"] == pytest.approx(1.0)
    parts = [ignorant[f"val/target_{part}_noise"] for part in ("low", "medium", "high")]
    assert parts == pytest.approx([9] * 3, rel=0.3)  # the variance of the data


def test_one_that_uses_it_errs_with_anothers_and_where_there_is_noise() -> None:
    found = validated(1.0)
    assert found["val/exchanged_target_ratio"] > 1.5
    assert found["val/target_low_noise"] < 0.5 * found["val/target_high_noise"]
    assert found == pytest.approx(validated(1.0, batch_size=1))


def test_a_scene_alone_has_no_other_to_exchange_with() -> None:
    assert "val/exchanged_target_ratio" not in validated(1.0, count=1)


def test_losses_go_to_the_third_of_their_level_and_few_targets_are_exchanged() -> None:
    use = TargetUse()
    for share, loss in ((0.0, 1.0), (0.3, 3.0), (0.5, 5.0), (1.0, 7.0)):
        use.add(share, loss)
    use.add_exchanged(2.0, 3.0)
    use.add_exchanged(2.0, 5.0)
    assert scores_of(use.sums) == pytest.approx(
        {
            "val/target_low_noise": 2.0,
            "val/target_medium_noise": 5.0,
            "val/target_high_noise": 7.0,
            "val/exchanged_target_ratio": 2.0,
        }
    )
    targets = [torch.full((1, 1, 1, 1, 1), float(number)) for number in range(EXCHANGED + 5)]
    given = [use.exchange(target) for target in targets]
    assert given[0] is None
    assert all(torch.equal(got, before) for got, before in zip(given[1 : EXCHANGED + 1], targets, strict=False))
    assert given[EXCHANGED + 1 :] == [None] * 4
    assert use.exchange(torch.zeros(1, 1, 1, 1, 2)) is None
