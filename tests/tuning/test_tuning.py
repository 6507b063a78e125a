"""Searched samplers in closed form: nearer on scenes held out; searches go on where they stopped."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from exact_model import exact_model, scenes

from dfm_lightning import diffusion
from dfm_lightning.diffusion import CosineProcess, VarianceExploding
from dfm_lightning.errors import UserError
from dfm_lightning.tuning import Tuning, tune_sampler, tuning
from dfm_lightning.tuning.candidates import fixed_choices, searchable, varied
from dfm_lightning.tuning.converged import errors, problems_of


def settings(folder: Path, evaluations: int = 6, candidates: int = 30) -> Tuning:
    return Tuning(evaluations, folder, candidates, scenes=4, draws=16)


@pytest.mark.slow
@pytest.mark.parametrize("evaluations", [6, 10])
def test_a_searched_sampler_beats_the_best_fixed_one_on_held_out_contexts(
    tmp_path: Path, evaluations: int
) -> None:
    result = tune_sampler(exact_model(), scenes(4), settings(tmp_path, evaluations, 120))
    assert result["gain"]["low"] > 0
    assert result["error"]["mean"] < 0.7 * result["fixed_error"]["mean"]
    # Measured once more, with the sampler that the overlay describes, and by other means.
    described = yaml.safe_load((tmp_path / "sampler.yaml").read_text())["model"]["init_args"]["sampler"]
    arguments = dict(described["init_args"])
    spacing = diffusion.GivenLevels(arguments.pop("spacing")["init_args"]["levels"])
    sampler = getattr(diffusion, described["class_path"].split(".")[-1])(spacing=spacing, **arguments)
    assert sampler.evaluations == evaluations
    model = exact_model()
    problems = list(problems_of(model, scenes(4)[2:], 16))
    with torch.no_grad():
        fine = [
            problem.sampled(diffusion.PLMS(300, spacing=diffusion.Even()), model.process) for problem in problems
        ]
        found = errors(sampler, model.process, problems, fine)
    assert np.mean(found) == pytest.approx(result["error"]["mean"], rel=0.25)


class StoppedError(Exception):
    """An interruption."""


def test_a_search_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tune_sampler(exact_model(), scenes(4), settings(tmp_path / "whole"))
    measured = [0]
    real = errors

    def counting(*arguments: Any) -> list[float]:
        measured[0] += 1
        if measured[0] == 25:
            raise StoppedError
        return real(*arguments)

    monkeypatch.setattr(tuning, "errors", counting)
    with pytest.raises(StoppedError):
        tune_sampler(exact_model(), scenes(4), settings(tmp_path / "parts"))
    stored = json.loads((tmp_path / "parts" / "tuning.json").read_text())["measured"]
    assert len(stored) == 24
    resumed = tune_sampler(exact_model(), scenes(4), settings(tmp_path / "parts"))
    assert resumed == whole
    total = len(json.loads((tmp_path / "parts" / "tuning.json").read_text())["measured"])
    assert measured[0] == total + 1
    # More candidates: what has been measured is used.
    tune_sampler(exact_model(), scenes(4), settings(tmp_path / "parts", candidates=35))
    assert measured[0] <= total + 1 + 5 + 1


def test_a_folder_of_another_search_is_refused(tmp_path: Path) -> None:
    tune_sampler(exact_model(), scenes(4), settings(tmp_path, candidates=1))
    with pytest.raises(UserError, match="evaluations: 6 → 5"):
        tune_sampler(exact_model(), scenes(4), settings(tmp_path, evaluations=5, candidates=1))
    model = exact_model()
    model.denoiser.unused.data += 1
    with pytest.raises(UserError, match="weights"):
        tune_sampler(model, scenes(4), settings(tmp_path, candidates=1))
    (first, *others) = scenes(4)
    brighter = first._replace(context=first.context._replace(observation=first.context.observation + 0.1))
    with pytest.raises(UserError, match=f"data of scene '{first.key[0]}'"):
        tune_sampler(exact_model(), [brighter, *others], settings(tmp_path, candidates=1))
    (tmp_path / "tuning.json").write_text("{")
    with pytest.raises(UserError, match=r"tuning\.json"):
        tune_sampler(exact_model(), scenes(4), settings(tmp_path, candidates=1))


def test_one_scene_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2 validation scenes"):
        tune_sampler(exact_model(), scenes(1), settings(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("process", [CosineProcess(), CosineProcess(250), VarianceExploding(data_std=None)])
@pytest.mark.parametrize("steps", [1, 2, 6, 20])
def test_whatever_is_varied_is_a_sampler_of_as_many_evaluations(process: Any, steps: int) -> None:
    random = np.random.default_rng(0)
    for fixed in fixed_choices(steps, process).values():
        candidate = searchable(fixed)
        for _ in range(15):
            candidate = varied(candidate, 0.5, process, random)
            sampler = candidate.sampler({"temperature": 0.7})
            assert sampler.evaluations == steps
            sampler.check(process)


def test_the_form_that_is_varied_is_the_same_sampler() -> None:
    process = CosineProcess()
    model = exact_model()
    problems = list(problems_of(model, scenes(1), 4))
    for name, fixed in fixed_choices(7, process).items():
        if "Trailing" in name:  # whose first step is so long that the fixed ones go on at first order
            continue
        with torch.no_grad():
            ends = [problems[0].sampled(each.sampler({}), process) for each in (fixed, searchable(fixed))]
        if "3" not in name or "UniPC" not in name:  # (whose order falls before the end)
            torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-5)
