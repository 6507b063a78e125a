"""Two processes on a CPU train the same weights, share the scenes without repeating or losing one, fail as one."""

import subprocess
import sys
from pathlib import Path

import pytest
from toy_runs import checkpoint

TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.callbacks+=toy_problem.Recorder")
FAILING = "--trainer.callbacks+=toy_problem.Failing"


def dfm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `dfm` as a process of its own, as several devices need it."""
    command = [sys.executable, "-m", "dfm_lightning", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_two_processes_share_training_and_testing(folder: Path) -> None:
    options = ("--config", "toy.yaml", "--data.scenes", "7", "--data.batch_size", "2", *TWO)
    done = dfm("fit", *options, "--trainer.callbacks.folder=unused")
    assert done.returncode == 0, done.stderr
    path = checkpoint(folder / "runs" / "toy" / "version_0")
    assert path.is_file()

    done = dfm("test", *options, "--trainer.callbacks.folder=tested", "--ckpt_path", str(path))
    assert done.returncode == 0, done.stderr
    shares = [(folder / "tested" / f"{rank}.txt").read_text().splitlines() for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == [f"test{index}" for index in range(7)]
    assert shares[0]
    assert shares[1]


@pytest.mark.slow
def test_one_scene_is_predicted_by_one_of_two_processes(folder: Path) -> None:
    options = ("--config", "toy.yaml", "--data.scenes", "1", "--model.samples", "2", *TWO)
    done = dfm("predict", *options, "--trainer.callbacks.folder=predicted")
    assert done.returncode == 0, done.stderr
    lines = [line for path in (folder / "predicted").iterdir() for line in path.read_text().splitlines()]
    assert sorted(lines) == ["predict0 0", "predict0 1"]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1, -1])
def test_wrong_input_of_any_process_is_one_line_and_status_2(folder: Path, rank: int) -> None:
    done = dfm("fit", "--config", "toy.yaml", *TWO[:4], FAILING, f"--trainer.callbacks.rank={rank}")
    assert done.stderr.splitlines()[-1] == "dfm: this cannot be used"
    assert done.stderr.count("cannot be used") == 1
    assert "Traceback" not in done.stderr
    assert "zombies" not in done.stderr  # Lightning's word, as it kills the first process
    assert done.returncode == 2


@pytest.mark.slow
def test_a_defect_in_one_process_is_the_only_traceback(folder: Path) -> None:
    options = (FAILING, "--trainer.callbacks.rank=1", "--trainer.callbacks.defect=true")
    done = dfm("fit", "--config", "toy.yaml", *TWO[:4], *options)
    assert done.stderr.count("Traceback") == 1
    assert "RuntimeError: this cannot be used" in done.stderr
    assert done.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("fit", "--config", "toy.yaml", "--data.category", "cube"),
            "data has no category 'cube'; it has: curve, line.",
        ),
        (("fit", "--config", "toy.yaml", "--trainer.max_stps", "1"), "There is no setting 'trainer.max_stps'."),
    ],
)
def test_wrong_input_is_all_that_stderr_shows(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    done = dfm(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
