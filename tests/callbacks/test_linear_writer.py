"""The files of a linear problem's solutions, against what they are to show."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dfm_lightning.callbacks import LinearWriter
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.linear import LinearMeasurements, Matrices
from dfm_lightning.tasks import LinearSolution
from dfm_lightning.types import Prediction

SHAPE = (3, 8, 8)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 0.8 - 0.4


def prediction(sample: int) -> Prediction:
    image = drawn(1, 1, *SHAPE)
    batch = LinearMeasurements(Matrices((4, 9))).problems(
        image, torch.zeros(1, dtype=torch.long), ["a"], torch.Generator().manual_seed(2)
    )
    solution = LinearSolution(drawn(3 + sample, 1, *SHAPE), drawn(30, *SHAPE), drawn(31, 2, *SHAPE) / 4)
    return Prediction("a", sample, solution, solution.image, batch.target.params, batch.context)


def picture(path: Path) -> Tensor:
    """A picture in [-1, 1], [3 h w]."""
    return torch.from_numpy(np.asarray(Image.open(path))).permute(2, 0, 1) / 127.5 - 1


def test_what_the_files_of_a_solution_hold(tmp_path: Path) -> None:
    given = prediction(0)
    LinearWriter(str(tmp_path)).write(given, tmp_path)
    rows = given.context.params.operator.rows[0, 0].flatten(1).double()
    measured = given.context.observation[0, 0].flatten().double()
    back = (torch.linalg.pinv(rows) @ measured).view(SHAPE)
    solution = given.signal
    step = 1.01 / 127.5
    assert picture(tmp_path / "measured.png").double() == pytest.approx(back.clamp(-1, 1), abs=step)
    assert picture(tmp_path / "image.png") == pytest.approx(solution.image[0], abs=step)
    assert picture(tmp_path / "mean.png") == pytest.approx(solution.mean, abs=step)
    for number in (0, 1):
        strip = picture(tmp_path / f"direction_{number + 1}.png").unflatten(2, (5, 8))
        for place, deviations in enumerate((-2, -1, 0, 1, 2)):
            moved = (solution.mean + deviations * solution.directions[number]).clamp(-1, 1)
            assert strip[:, :, place] == pytest.approx(moved, abs=step)
    with np.load(tmp_path / "solution.npz") as stored:
        for name in ("mean", "directions"):
            assert torch.from_numpy(stored[name]) == pytest.approx(getattr(solution, name))
        assert torch.from_numpy(stored["measurement"]).flatten().double() == pytest.approx(measured)


def test_the_standard_deviation_of_all_images_is_shown(tmp_path: Path) -> None:
    writer, folders = LinearWriter(str(tmp_path)), []
    for sample in range(3):
        folders.append(tmp_path / "a" / f"sample_{sample:02}")
        folders[-1].mkdir(parents=True)
        writer.write(prediction(sample), folders[-1])
    (figure,) = writer.overview({"a": folders})
    images = torch.stack([prediction(sample).signal.image[0] for sample in range(3)])
    expected = ((images - images.mean(0)).square().sum(0) / 2).sqrt()
    assert (picture(figure.path) + 1) / 2 == pytest.approx(expected, abs=0.005)
    assert writer.overview({"a": folders[:1]}) == []


def test_another_signal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="TensorWriter"):
        LinearWriter(str(tmp_path)).write(prediction(0)._replace(signal=torch.zeros(1)), tmp_path)
