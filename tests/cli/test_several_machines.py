"""Two machines, as torchrun and SLURM start them, both of them this one."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from toy_runs import checkpoint

from dfm_lightning.cli import main

pytestmark = pytest.mark.slow

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1")
MACHINES = ("--trainer.devices", "1", "--trainer.num_nodes", "2", "--trainer.strategy", "ddp")
FAILING = ("--trainer.callbacks+=toy_problem.Failing", "--trainer.callbacks.rank")


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def torchrun(node: int, port: int) -> tuple[list[str], dict[str, str]]:
    place = ["--node-rank", str(node), "--master-addr", "127.0.0.1", "--master-port", str(port)]
    return [*TORCHRUN, *place, "-m", "dfm_lightning"], {}


def slurm(node: int, port: int) -> tuple[list[str], dict[str, str]]:
    variables = {
        "SLURM_JOB_ID": str(port), "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_NNODES": "2", "SLURM_PROCID": str(node), "SLURM_NODEID": str(node), "SLURM_LOCALID": "0",
        "SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    return [sys.executable, "-m", "dfm_lightning"], variables


def on_two(start: Callable, *arguments: str) -> tuple[list[int], list[str]]:
    """Run `dfm` on two machines; the exit statuses and what each one printed."""
    port = free_port()
    started = []
    for node in range(2):
        command, variables = start(node, port)
        started.append(
            subprocess.Popen(
                [*command, *arguments], env={**os.environ, **variables, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
        )  # fmt: skip
    try:
        printed = [process.communicate(timeout=300)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    return [process.returncode for process in started], printed


@pytest.mark.parametrize(
    ("start", "command", "expected"),
    [
        (torchrun, "test", [f"test{scene}" for scene in range(5)]),
        (slurm, "predict", [f"predict{scene} {sample}" for scene in range(5) for sample in range(2)]),
    ],
)
def test_two_machines_share_the_scenes(folder: Path, start: Callable, command: str, expected: list[str]) -> None:
    options = ("--config", "toy.yaml", "--data.scenes", "5", "--data.batch_size", "2", "--model.samples", "2")
    recorder = ("--trainer.callbacks+=toy_problem.Recorder", "--trainer.callbacks.folder=records")
    statuses, printed = on_two(start, command, *options, *MACHINES, *recorder)
    assert statuses == [0, 0], printed
    assert "".join(printed).lower().count(f"2 processes on 2 machines, started by {start.__name__}") == 1
    shares = [(folder / "records" / f"{rank}.txt").read_text().splitlines() for rank in range(2)]
    assert all(shares)
    assert sorted(shares[0] + shares[1]) == expected


@pytest.mark.parametrize("start", [torchrun, slurm])
def test_a_failure_on_one_machine_is_said_once(folder: Path, start: Callable) -> None:
    statuses, printed = on_two(start, "fit", "--config", "toy.yaml", *MACHINES, *FAILING[:1], f"{FAILING[1]}=1")
    assert all(statuses)
    assert "".join(printed).count("dfm: this cannot be used") == 1
    assert "lightning/pytorch" not in "".join(printed)  # (torchrun has a traceback of its own)


def test_a_training_of_two_machines_goes_on_with_one_process(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ("fit", "--config", "toy.yaml", "--data.batch_size", "2")
    statuses, printed = on_two(slurm, *fit, *MACHINES, "--trainer.max_steps", "10")
    assert statuses == [0, 0], printed
    path = checkpoint(folder / "runs" / "toy" / "version_0", 10)
    capsys.readouterr()
    assert main([*fit, "--ckpt_path", str(path)]) == 0
    assert "1 process\n" in capsys.readouterr().out
    assert checkpoint(folder / "runs" / "toy" / "version_1").is_file()
