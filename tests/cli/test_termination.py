"""SIGTERM: status 143, after the training step or at once; what is finished stays, nothing is half-written."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.strategies import SingleDeviceStrategy
from toy_runs import checkpoint

from dfm_lightning.callbacks import TensorWriter
from dfm_lightning.cli import main, termination
from dfm_lightning.cli.termination import Terminated, Termination, terminated_in_order

TOY = ("--config", "toy.yaml", "--trainer.callbacks+=toy_problem.Terminating")
WRITER = ("--trainer.callbacks+=TensorWriter", "--trainer.callbacks.output=predictions")


def asked(number: int = signal.SIGTERM) -> None:
    """Send a signal to this process, and let its handler run."""
    os.kill(os.getpid(), number)
    time.sleep(0)


@pytest.fixture
def given_up() -> list[int]:
    return []


def test_a_training_ends_after_its_step(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *TOY, "--trainer.callbacks.step=7"]) == 143
    assert capfd.readouterr().err.splitlines()[-1] == "dfm: terminated"
    assert (folder / "ended_at.txt").read_text() == "7 Terminated"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_long_step_is_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(termination, "_STEP_ENDS", 0.2)
    begin = time.monotonic()
    assert main(["fit", *TOY, "--trainer.callbacks.step=7", "--trainer.callbacks.seconds=60"]) == 143
    assert time.monotonic() - begin < 50
    assert (folder / "ended_at.txt").read_text() == "6 Terminated"


@pytest.mark.parametrize("command", ["test", "validate"])
def test_other_commands_end_at_once(folder: Path, command: str) -> None:
    assert main([command, *TOY, "--trainer.callbacks.step=0"]) == 143
    assert (folder / "ended_at.txt").read_text() == "0 Terminated"


def test_finished_samples_stay_and_none_is_half_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = TensorWriter.write

    def interrupted(self: TensorWriter, prediction: Any, target: Path) -> None:
        write(self, prediction, target)
        if prediction.sample == 2:
            asked()

    monkeypatch.setattr(TensorWriter, "write", interrupted)
    assert main(["predict", "--config", "toy.yaml", *WRITER]) == 143
    assert {path.name for path in (folder / "predictions" / "predict0").iterdir()} == {"sample_00", "sample_01"}
    monkeypatch.setattr(TensorWriter, "write", write)
    assert main(["predict", "--config", "toy.yaml", *WRITER, "--data.scenes=1"]) == 0
    assert len(list((folder / "predictions" / "predict0").glob("sample_*"))) == 4


def test_an_error_that_the_request_has_caused_is_not_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        try:
            asked()
        except Terminated:
            raise RuntimeError("a worker was killed") from None

    monkeypatch.setattr("dfm_lightning.cli.lightning_cli.run_lightning", fail)
    assert main(["fit", "--config", "toy.yaml"]) == 143


def test_a_second_request_does_not_wait_and_a_third_lets_it_end(given_up: list[int]) -> None:
    with terminated_in_order(given_up.append) as current:
        current.postponed = True
        asked()
        assert current.status == 143
        with pytest.raises(Terminated):
            asked()
        asked()
    assert not given_up


def test_a_process_that_hangs_is_given_up(given_up: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(termination, "_RUN_ENDS", 0.05)
    with terminated_in_order(given_up.append):
        with pytest.raises(Terminated):
            asked()
        time.sleep(0.5)
    assert given_up == [143]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="not of this system")
def test_a_terminal_that_goes_ends_a_run_unless_it_is_to_go_on(given_up: list[int]) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # (The tests themselves may run under nohup.)
    try:
        with terminated_in_order(given_up.append), pytest.raises(Terminated) as ended:
            asked(signal.SIGHUP)
        assert ended.value.code == 129
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        with terminated_in_order(given_up.append):
            asked(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_processes_forked_meanwhile_end_as_usual(given_up: list[int]) -> None:
    with terminated_in_order(given_up.append):
        child = os.fork()
        if child == 0:
            try:
                asked()
                time.sleep(5)
            finally:
                os._exit(3)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM


def test_other_threads_leave_signals_alone(given_up: list[int]) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def run() -> None:
        with terminated_in_order(given_up.append):
            assert signal.getsignal(signal.SIGTERM) is before

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def test_processes_end_after_the_same_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As where another process has been asked to end.
    decisions: list[bool] = []

    def decide(self: SingleDeviceStrategy, decision: bool, all: bool = True) -> bool:
        decisions.append(decision)
        assert not all
        return len(decisions) == 10

    monkeypatch.setattr(SingleDeviceStrategy, "reduce_boolean_decision", decide)
    assert main(["fit", "--config", "toy.yaml", "--trainer.val_check_interval=1000"]) == 143
    assert decisions == [False] * 10


def test_the_first_process_waits_for_those_it_has_started(
    given_up: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(termination, "_OTHERS_END", 0.2)
    current = Termination(given_up.append)
    current.others = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])]
    current.wait_for_others()
    assert current.others[0].wait(5) == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_end_together(folder: Path, rank: int) -> None:
    options = ("--trainer.callbacks.step=12", f"--trainer.callbacks.rank={rank}", "--data.batch_size=2")
    two = ("--trainer.devices=2", "--trainer.strategy=ddp")
    command = [sys.executable, "-m", "dfm_lightning", "fit", *TOY, *options, *two]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 143, done.stderr
    assert done.stderr.count("terminated") == 1
    assert "Traceback" not in done.stderr
    assert (folder / "ended_at.txt").read_text() == "12 Terminated"
    assert checkpoint(folder / "runs" / "toy" / "version_0", 10).is_file()
