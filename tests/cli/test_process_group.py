"""No thread of a process group outlives the run, and a group that waits for its peers holds nobody up."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch.distributed as dist
import torch.distributed.nn.functional  # (as the command line does)

from dfm_lightning.cli import entry
from dfm_lightning.cli.process_group import leave_process_group

THREADS = Path("/proc/self/task")


def threads_of_groups() -> list[str]:
    names = []
    for task in THREADS.iterdir():
        with suppress(OSError):  # a thread that has just ended
            names.append((task / "comm").read_text().strip())
    return [name for name in names if "gloo" in name]


def join(folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)


@pytest.fixture(autouse=True)
def no_group() -> Iterator[None]:
    assert not dist.is_initialized()
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.mark.skipif(not THREADS.is_dir(), reason="names of threads are read from /proc")
def test_a_group_that_has_trained_ends_with_its_threads(tmp_path: Path) -> None:
    join(tmp_path)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
    model(torch.ones(1, 2)).sum().backward()
    assert threads_of_groups()
    del model
    assert leave_process_group()
    assert not dist.is_initialized()
    assert not threads_of_groups()


@pytest.mark.parametrize("error", [None, ValueError("a defect"), SystemExit(3)])
def test_the_command_leaves_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | None
) -> None:
    def run(arguments: list[str]) -> None:
        join(tmp_path)
        if error is not None:
            raise error

    monkeypatch.setattr(entry, "_run", run)
    if isinstance(error, ValueError):
        with pytest.raises(ValueError, match="a defect"):
            entry.main(["fit"])
    else:
        assert entry.main(["fit"]) == (0 if error is None else 3)
    assert not dist.is_initialized()


def test_without_a_group_nothing_happens() -> None:
    before = threading.active_count()
    assert leave_process_group()
    assert threading.active_count() == before


ABANDONED = """
import sys, time, torch, torch.distributed as dist, torch.distributed.nn.functional
from dfm_lightning.cli import process_group

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
if rank == 0:
    waiting = dist.all_reduce(torch.ones(1), async_op=True)  # with a peer that never comes
    start = time.monotonic()
    process_group._ABANDONED = 0.5
    process_group.leave_process_group(failed=True)
    print("left after", time.monotonic() - start)
else:
    sys.stdin.read()
"""


@pytest.mark.slow
def test_an_abandoned_group_holds_nobody_up(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ABANDONED]
    peer = subprocess.Popen([*command, "1", str(tmp_path / "store")], stdin=subprocess.PIPE)
    try:
        done = subprocess.run(
            [*command, "0", str(tmp_path / "store")], capture_output=True, text=True, check=True, timeout=60
        )
    finally:
        peer.communicate()
    assert float(done.stdout.split()[-1]) < 2
