"""Training, resuming, and what a checkpoint carries and decides."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from toy_runs import Run, checkpoint, load

from dfm_lightning.checkpoints.stored_config import CONFIG_KEY
from dfm_lightning.cli import main
from dfm_lightning.cli.architecture import architecture_of
from dfm_lightning.errors import UserError


def is_primitive(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_primitive(item) for key, item in value.items())
    if isinstance(value, list):
        return all(is_primitive(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


def same_weights(first: Path, second: Path) -> bool:
    """Whether two checkpoints agree bit for bit in their averaged and their current weights."""
    return all(
        torch.equal(load(first)[state][name], value)
        for state in ("state_dict", "current_model_state")
        for name, value in load(second)[state].items()
    )


def test_a_checkpoint_carries_the_config_as_data(run: Run) -> None:
    folder = run("fit", "--model.samples", "3")
    stored = load(checkpoint(folder))[CONFIG_KEY]
    assert is_primitive(stored)
    assert stored["model"]["init_args"]["samples"] == 3
    assert stored["model"]["init_args"]["denoiser"]["init_args"] == {"width": 6}
    assert stored["model"]["init_args"]["process"]["init_args"] == {"levels": 1000, "emphasis": 0.0}
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert saved == stored


def test_the_architecture_follows_the_checkpoint_and_all_else_the_user(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint(run("fit", "--model.samples", "3", "--model.denoiser.width", "8"))
    capfd.readouterr()
    again = run("test", "--ckpt_path", str(path), "--model.sampler.steps", "7", "--data.scenes", "2")
    lines = [line for line in capfd.readouterr().err.splitlines() if "architecture" in line]
    assert lines == ["The architecture is the checkpoint's, not the config's: model.denoiser.width: 6 → 8"]
    used = yaml.safe_load((again / "config.yaml").read_text())["model"]["init_args"]
    assert used["denoiser"]["init_args"] == {"width": 8}  # the checkpoint's
    assert used["sampler"]["init_args"]["steps"] == 7  # typed
    assert used["samples"] == 4  # a default, though the checkpoint remembers 3


def test_nothing_is_said_when_the_architectures_agree(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    path = checkpoint(run("fit"))
    run("test", "--ckpt_path", str(path), "--model.optimizer.learning_rate", "1")
    assert "architecture" not in capfd.readouterr().err


@pytest.mark.slow
def test_a_model_of_another_class_follows_the_checkpoint(run: Run, folder: Path) -> None:
    path = checkpoint(run("fit"))
    text = (folder / "toy_problem.py").read_text()
    assert "class Task(" in text
    again = run(
        "validate", "--ckpt_path", str(path), "--model", "DiffusionWithForwardModel", "--model.samples", "2"
    )
    used = yaml.safe_load((again / "config.yaml").read_text())["model"]
    assert used["class_path"] == "toy_problem.Task"
    assert used["init_args"]["samples"] == 2


def stored(model: str, denoiser: str, forward_model: str = "toy_problem.Slope", **init: Any) -> dict[str, Any]:
    """A config of a model with such parts."""
    arguments = {
        "denoiser": {"class_path": f"toy_problem.{denoiser}", "init_args": init},
        "forward_model": {"class_path": forward_model, "init_args": {"gain": 2.0 if "width" in init else 1.0}},
    }
    return {"model": {"class_path": f"toy_problem.{model}", "init_args": arguments}}


def test_a_class_derived_from_the_checkpoints_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    slope = importlib.import_module("toy_problem").Slope
    trained = stored("Task", "LinearDenoiser", width=9)
    used = stored("ScoredTask", "ScoredDenoiser", "toy_problem.SteepSlope", bonus=3)
    assert "forward_model" not in architecture_of(trained, used)["model"]["init_args"]
    monkeypatch.setattr(slope, "fixed_by_checkpoint", frozenset({"gain"}))
    model = architecture_of(trained, used)["model"]
    assert model["class_path"] == "toy_problem.ScoredTask"
    assert model["init_args"]["denoiser"] == {
        "class_path": "toy_problem.ScoredDenoiser",
        "init_args": {"width": 9, "bonus": 3},  # the checkpoint's, and what it does not know
    }
    assert model["init_args"]["forward_model"] == {
        "class_path": "toy_problem.SteepSlope",
        "init_args": {"gain": 2.0},
    }
    # The other way round, and for a class that cannot be imported, the checkpoint's are used.
    for config in (trained, stored("Gone", "Gone")):
        model = architecture_of(used, config)["model"]
        assert model["class_path"] == "toy_problem.ScoredTask"
        assert model["init_args"]["denoiser"]["class_path"] == "toy_problem.ScoredDenoiser"
    with pytest.raises(UserError, match=r"toy_problem\.Gone"):
        architecture_of(stored("Gone", "Gone"), used)


def test_a_run_decides_what_a_denoiser_leaves_to_it() -> None:
    """Guidance of looks belongs to sampling: it is as the run says, whatever the checkpoint was trained with."""

    def config(**arguments: Any) -> dict[str, Any]:
        denoiser = {"class_path": "dfm_lightning.denoisers.VolumeDenoiser", "init_args": arguments}
        task = {"class_path": "dfm_lightning.tasks.InverseGraphics", "init_args": {"denoiser": denoiser}}
        return {"model": task}

    guidance = {"class_path": "dfm_lightning.denoisers.LookGuidance", "init_args": {"scales": [3.0]}}
    for stored, now in ((None, guidance), (guidance, None)):
        trained = config(resolution=16, look_guidance=stored)
        laid = architecture_of(trained, config(resolution=24, look_guidance=now))["model"]["init_args"]
        assert laid["denoiser"]["init_args"] == {"resolution": 16, "look_guidance": now}
    laid = architecture_of(config(look_guidance=guidance), config(resolution=24))["model"]["init_args"]
    assert laid["denoiser"]["init_args"] == {"resolution": 24, "look_guidance": guidance}


@pytest.mark.slow
def test_scores_can_be_added_after_training(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    path = checkpoint(run("fit", "--model.denoiser.width", "8"))
    options = ("--model", "toy_problem.ScoredTask", "--model.denoiser", "toy_problem.ScoredDenoiser")
    again = run("test", "--ckpt_path", str(path), *options, "--data.scenes", "2")
    used = yaml.safe_load((again / "config.yaml").read_text())["model"]
    assert used["class_path"] == "toy_problem.ScoredTask"
    assert used["init_args"]["denoiser"]["class_path"] == "toy_problem.ScoredDenoiser"
    assert used["init_args"]["denoiser"]["init_args"]["width"] == 8
    assert "test/scored" in capfd.readouterr().out


@pytest.mark.slow
def test_weights_of_another_model_are_refused_in_one_line(
    run: Run, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint(run("fit"))
    content = load(path)
    del content[CONFIG_KEY]
    torch.save(content, folder / "other.ckpt")
    capfd.readouterr()
    other = ["--ckpt_path", "other.ckpt", "--model.denoiser.width", "9"]
    assert main(["test", "--config", "toy.yaml", *other]) == 2
    assert "do not fit the model" in capfd.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_test_and_predict_use_the_averaged_weights(run: Run, folder: Path) -> None:
    path = checkpoint(run("fit"))
    content = load(path)
    current = content["current_model_state"]
    assert any(not torch.equal(current[name], value) for name, value in content["state_dict"].items())
    errors = []
    for name, weights in (("both", content["current_model_state"]), ("average", content["state_dict"])):
        torch.save({**content, "current_model_state": weights}, folder / f"{name}.ckpt")
        run(
            "test",
            "--ckpt_path",
            f"{name}.ckpt",
            "--trainer.logger",
            "CSVLogger",
            "--trainer.logger.save_dir",
            name,
        )
        errors.append(next((folder / name).rglob("metrics.csv")).read_text())
    assert errors[0] == errors[1]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="plain"),  # 3 batches an epoch: stops within the fourth
        pytest.param(["--data.workers", "1"], id="workers", marks=pytest.mark.slow),
        pytest.param(
            ["--data.batch_size", "2", "--trainer.accumulate_grad_batches", "2"],
            id="accumulation",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["--trainer.max_epochs", "7", "--model.optimizer.decay", "cosine"], id="epochs", marks=pytest.mark.slow
        ),
    ],
)
def test_ten_and_ten_iterations_give_what_twenty_give(run: Run, options: list[str]) -> None:
    whole = run("fit", *options)
    resumed = run("fit", *options, "--ckpt_path", str(checkpoint(whole, 10)))
    assert not same_weights(checkpoint(whole, 10), checkpoint(whole, 20))
    assert same_weights(checkpoint(resumed, 20), checkpoint(whole, 20))


@pytest.mark.slow
def test_a_run_that_was_shorter_can_be_continued(run: Run) -> None:
    whole, half = run("fit"), run("fit", "--trainer.max_steps", "10")
    resumed = run("fit", "--ckpt_path", str(checkpoint(half, 10)))
    assert same_weights(checkpoint(resumed, 20), checkpoint(whole, 20))


@pytest.mark.slow
def test_the_seed_decides_the_weights(run: Run) -> None:
    first, second, other = run("fit"), run("fit"), run("fit", "--seed_everything", "1")
    assert same_weights(checkpoint(first), checkpoint(second))
    assert not same_weights(checkpoint(first), checkpoint(other))


@pytest.mark.slow
def test_predictions_do_not_depend_on_the_batch(run: Run, folder: Path) -> None:
    path = checkpoint(run("fit"))
    for size in ("1", "4"):
        recorder = ["--trainer.callbacks+=toy_problem.Recorder", f"--trainer.callbacks.folder={size}"]
        run("predict", "--ckpt_path", str(path), "--data.batch_size", size, *recorder)
    assert (folder / "1" / "0.txt").read_text() == (folder / "4" / "0.txt").read_text()


@pytest.mark.slow
def test_compiling_in_place_changes_no_key(run: Run) -> None:
    compiled = ["--trainer.callbacks+=Compile", "--trainer.callbacks.parts=[denoiser,forward_model]"]
    plain = run("fit", "--trainer.max_steps", "10")
    fast = run("fit", "--trainer.max_steps", "10", *compiled, "--trainer.callbacks.backend=eager")
    first, second = load(checkpoint(plain, 10)), load(checkpoint(fast, 10))
    assert list(first["state_dict"]) == list(second["state_dict"])
    for name, value in first["state_dict"].items():
        torch.testing.assert_close(second["state_dict"][name], value)


def test_mixed_precision_trains(run: Run) -> None:
    weights = load(checkpoint(run("fit", "--trainer.precision", "bf16-mixed")))["state_dict"]
    assert all(value.dtype == torch.float32 and bool(value.isfinite().all()) for value in weights.values())


def test_a_training_ends_by_naming_its_checkpoint(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    path = checkpoint(run("fit"))
    assert f"checkpoint: {path.relative_to(Path.cwd())}" in capfd.readouterr().out.splitlines()


def test_runs_go_to_a_folder_named_after_the_config(run: Run, folder: Path) -> None:
    assert run("fit", "--trainer.max_steps", "2") == folder / "runs" / "toy" / "version_0"
    assert list((folder / "runs" / "toy" / "version_0").glob("events.out.tfevents*"))


def test_progress_is_shown_with_the_time_left(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    path = checkpoint(run("fit"))
    assert "training 20/20, elapsed 0:00:0" in capfd.readouterr().err
    run("test", "--ckpt_path", str(path))
    assert "testing " in capfd.readouterr().err
    recorder = ("--trainer.callbacks+=toy_problem.Recorder", "--trainer.callbacks.folder=predicted")
    run("predict", "--ckpt_path", str(path), "--trainer.enable_progress_bar", "false", *recorder)
    assert "predicting " not in capfd.readouterr().err


def test_a_new_training_can_begin_with_the_weights_of_another(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    first = checkpoint(run("fit", "--model.denoiser.width", "8"))
    capfd.readouterr()
    # A rate of nothing: what training begins with is what it ends with.
    still = ["--model.optimizer.learning_rate", "0", "--trainer.max_steps", "10"]
    tuned = checkpoint(run("fit", *still, "--initial_weights", str(first)), 10)
    assert "model.denoiser.width: 6 → 8" in capfd.readouterr().err
    averaged = load(first)["state_dict"]
    for state in ("state_dict", "current_model_state"):
        for name, value in load(tuned)[state].items():
            torch.testing.assert_close(value, averaged[name], rtol=0, atol=1e-7)
    assert any(
        not torch.equal(averaged[name], value) for name, value in load(first)["current_model_state"].items()
    )
    assert load(tuned)["global_step"] == 10
    moments = load(tuned)["optimizer_states"][0]["state"].values()
    assert {int(moment["step"]) for moment in moments} == {10}


def test_a_training_that_is_continued_keeps_its_own_weights(run: Run) -> None:
    first = checkpoint(run("fit", "--seed_everything", "1"))
    whole = run("fit", "--initial_weights", str(first))
    continued = run("fit", "--initial_weights", str(first), "--ckpt_path", str(checkpoint(whole, 10)))
    assert same_weights(checkpoint(continued), checkpoint(whole))


def test_initial_weights_of_another_model_are_refused(
    run: Run, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", "toy.yaml", "--initial_weights", "nowhere.ckpt"]) == 2
    assert "No checkpoint 'nowhere.ckpt'" in capfd.readouterr().err
    content = load(checkpoint(run("fit")))
    del content[CONFIG_KEY]
    torch.save(content, folder / "other.ckpt")
    other = ["--initial_weights", "other.ckpt", "--model.denoiser.width", "9"]
    assert main(["fit", "--config", "toy.yaml", *other]) == 2
    assert "do not fit the model" in capfd.readouterr().err.splitlines()[-1]


def test_parts_that_the_initial_weights_lack_begin_untrained(
    run: Run, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = load(checkpoint(run("fit", "--model.denoiser.width", "8")))
    lacking = {name: value for name, value in content["state_dict"].items() if "layers.3" not in name}
    torch.save({**content, "state_dict": lacking}, folder / "old.ckpt")
    still = ["--model.optimizer.learning_rate", "0", "--trainer.max_steps", "10", "--model.denoiser.width", "8"]
    assert main(["fit", "--config", "toy.yaml", *still, "--initial_weights", "old.ckpt"]) == 2
    assert "do not fit the model" in capfd.readouterr().err.splitlines()[-1]
    grown = load(checkpoint(run("fit", *still, "--initial_weights", "old.ckpt", "--new_parts", "true"), 10))
    assert "denoiser.layers.3" in capfd.readouterr().err
    for name, value in lacking.items():
        torch.testing.assert_close(grown["state_dict"][name], value, rtol=0, atol=1e-7)
    # Another width than that of the weights is no new part.
    other = ["--initial_weights", "old.ckpt", "--new_parts", "true", "--model.denoiser.width", "9"]
    assert main(["fit", "--config", "toy.yaml", *other]) == 2
    assert "do not fit the model" in capfd.readouterr().err.splitlines()[-1]
