"""Who may say that a run has failed: the first of its processes to do so, and nobody after the first has ended."""

import threading
from pathlib import Path

import pytest
import torch.distributed as dist

from dfm_lightning.cli import processes
from dfm_lightning.cli.processes import SharedFailure, shared_failure


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "status"


def test_the_first_to_claim_speaks_and_the_others_follow(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = SharedFailure(path), SharedFailure(path)
    assert second.status() is None
    assert first.claim(2)
    assert not second.claim(1)
    assert first.status() is None  # its own failure ends no process
    assert second.status() == 2
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert (first.followed_status(2), second.followed_status(1)) == (2, 2)
    # Lightning would kill the first process if another one ended with this status.
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert second.followed_status(1) == 0


def test_after_the_first_process_has_ended_others_are_silent(path: Path) -> None:
    late = SharedFailure(path.parent / "gone" / "status")
    assert not late.claim(1)


def test_a_status_that_is_being_written_is_none_yet(path: Path) -> None:
    path.touch()
    assert SharedFailure(path).status() is None


def test_a_consequence_waits_for_its_cause(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    cause, consequence = SharedFailure(path), SharedFailure(path)
    # The other process claims its failure while this one waits.
    monkeypatch.setattr("dfm_lightning.cli.processes.time.sleep", lambda seconds: cause.claim(2))
    assert not consequence.claim(1, may_follow=True)


def test_processes_started_meanwhile_share_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DFM_FAILURE_FILE", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with shared_failure() as first:
        with shared_failure() as second:
            assert second.path == first.path
        assert first.path.parent.is_dir()
    assert not first.path.parent.exists()


def test_without_a_place_for_files_each_process_speaks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.delenv("DFM_FAILURE_FILE", raising=False)
    monkeypatch.setattr(processes, "TemporaryDirectory", refuse)
    with shared_failure() as failure:
        assert failure.status() is None
        assert failure.claim(2)
        assert failure.followed_status(2) == 2


def test_a_full_disk_silences_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", refuse)
    assert SharedFailure(path).claim(2)


def test_a_process_that_is_left_alone_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(processes, "_OUTLIVES", 0.1)
    monkeypatch.setattr(SharedFailure, "give_up", lambda self, status: ended.set())
    monkeypatch.setenv("DFM_FAILURE_FILE", str(path.parent / "run" / "status"))
    monkeypatch.setenv("LOCAL_RANK", "1")
    (path.parent / "run").mkdir()
    with shared_failure():
        assert not ended.wait(1)  # the first process still runs
        (path.parent / "run").rmdir()
        assert ended.wait(5)
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert not SharedFailure(path.parent / "run" / "status").is_left_alone()


def test_of_processes_started_elsewhere_the_first_of_a_machine_speaks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before they have met: each has a folder of its own, and the same arguments."""
    for variables in ({"LOCAL_RANK": "{}"}, {"SLURM_NTASKS": "2", "SLURM_LOCALID": "{}"}):
        said = []
        for rank in range(2):
            with monkeypatch.context() as patch:
                patch.delenv("LOCAL_RANK", raising=False)
                for name, value in variables.items():
                    patch.setenv(name, value.format(rank))
                failure = SharedFailure(tmp_path / f"{len(variables)}{rank}", is_own=True)
                said.append(failure.claim(2))
                assert failure.followed_status(2) == 2
        assert said == [True, False]


def test_processes_that_have_met_count_in_their_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        claims = [SharedFailure(tmp_path / str(rank), is_own=True).claim(2) for rank in range(3)]
    finally:
        dist.destroy_process_group()
    assert claims == [True, False, False]
