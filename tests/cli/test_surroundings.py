"""Variables of SLURM, torchrun and others that do not fit are refused in one line; processes are counted aloud."""

from pathlib import Path

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy

from dfm_lightning.cli import main
from dfm_lightning.cli.surroundings import check_processes, check_strategy, find_starter, say_processes
from dfm_lightning.errors import UserError

SLURM = {
    "SLURM_JOB_ID": "1",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NNODES": "1",
}
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x",
    "WORLD_SIZE": "2",
    "RANK": "0",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


def without(variables: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name not in names}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {*SLURM, *TORCHRUN, "NODE_RANK"}:
        monkeypatch.delenv(name, raising=False)


def check(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], devices: int, machines: int = 1) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    check_processes(find_starter(), devices, machines)


@pytest.mark.parametrize(
    ("variables", "devices", "machines"),
    [
        ({}, 1, 1),
        ({}, 2, 1),
        (SLURM, 2, 1),
        ({**SLURM, "SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_NODEID": "1"}, 2, 2),
        ({**SLURM, "SLURM_NTASKS": "1"}, 1, 1),
        # A shell within a job of SLURM: whoever starts dfm there starts one process.
        ({**SLURM, "SLURM_JOB_NAME": "bash"}, 1, 1),
        ({**SLURM, "SLURM_JOB_NAME": "interactive", "SLURM_NTASKS": "9"}, 2, 1),
        ({"SLURM_JOB_ID": "1"}, 2, 1),  # sbatch without --ntasks
        (TORCHRUN, 2, 1),
        # What Lightning gives the processes that it starts.
        (without(TORCHRUN, "TORCHELASTIC_RUN_ID", "RANK") | {"LOCAL_RANK": "1", "NODE_RANK": "0"}, 2, 1),
        ({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}, 1, 1),
        ({"MASTER_ADDR": "a", "MASTER_PORT": "1"}, 1, 2),
    ],
)
def test_variables_that_fit(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], devices: int, machines: int
) -> None:
    check(monkeypatch, variables, devices, machines)


@pytest.mark.parametrize(
    ("variables", "devices", "machines", "said"),
    [
        ({**SLURM, "SLURM_NTASKS": "1"}, 2, 1, "SLURM_NTASKS is 1, .*num_nodes is 2"),
        ({**SLURM, "SLURM_NTASKS": "4"}, 1, 1, "SLURM_NTASKS is 4, .*num_nodes is 1"),
        (without(SLURM, "SLURM_PROCID"), 2, 1, "SLURM_PROCID is not set"),
        (without(SLURM, "SLURM_LOCALID", "SLURM_NODEID"), 2, 1, "SLURM_LOCALID and SLURM_NODEID are not set"),
        (without(SLURM, "SLURM_NTASKS_PER_NODE"), 2, 1, "SLURM_NTASKS_PER_NODE is not set: .*srun"),
        ({**SLURM, "SLURM_NTASKS_PER_NODE": "1"}, 2, 1, "SLURM_NTASKS_PER_NODE is 1, but trainer.devices is 2"),
        ({**SLURM, "SLURM_NNODES": "2"}, 2, 1, "SLURM_NNODES is 2, but trainer.num_nodes is 1"),
        ({**SLURM, "SLURM_PROCID": "7"}, 2, 1, "SLURM_PROCID is 7"),
        ({**SLURM, "SLURM_NTASKS": "4(x2)"}, 2, 1, r"SLURM_NTASKS .*got '4\(x2\)'"),
        ({**SLURM, "SLURM_NTASKS": ""}, 2, 1, "SLURM_NTASKS .*got ''"),
        (TORCHRUN, 1, 1, "WORLD_SIZE is 2, so torchrun .*num_nodes is 1: start torchrun with 1 process,"),
        (TORCHRUN, 4, 1, "num_nodes is 4: start torchrun with 4 processes,"),
        (without(TORCHRUN, "RANK"), 2, 1, "RANK is not set"),
        (without(TORCHRUN, "MASTER_ADDR"), 2, 1, "MASTER_ADDR is not set"),
        ({**TORCHRUN, "RANK": "2"}, 2, 1, "RANK is 2"),
        ({**TORCHRUN, "WORLD_SIZE": "two"}, 2, 1, "WORLD_SIZE .*got 'two'"),
        ({"WORLD_SIZE": "4"}, 1, 1, "WORLD_SIZE is 4"),
        ({"WORLD_SIZE": "4", "RANK": "1"}, 2, 1, "unset WORLD_SIZE"),
        ({"LOCAL_RANK": "1"}, 1, 1, "LOCAL_RANK is 1"),
        ({"LOCAL_RANK": "0"}, 2, 1, "MASTER_ADDR and MASTER_PORT are not set"),
        ({"LOCAL_RANK": "-1"}, 2, 1, "LOCAL_RANK .*got '-1'"),
        ({"MASTER_ADDR": "a"}, 1, 2, "num_nodes is 2, .*MASTER_PORT is not set"),
    ],
)
def test_variables_that_do_not_fit(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], devices: int, machines: int, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        check(monkeypatch, variables, devices, machines)


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_every_command_says_how_many_processes_there_are(
    folder: Path, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    writer = ("--trainer.callbacks+=TensorWriter", "--trainer.callbacks.output=out")
    assert main([command, "--config", "toy.yaml", "--trainer.fast_dev_run=true", *writer]) == 0
    assert "1 process\n" in capfd.readouterr().out


def test_several_processes_are_said(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", **quiet)
    say_processes(trainer, find_starter())
    assert capfd.readouterr().out == "2 processes on 1 machine, started by SLURM\n"


@pytest.mark.parametrize("devices", ["2", "auto"])
def test_a_run_that_does_not_fit_ends_at_once(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, devices: str
) -> None:
    for name, value in {**SLURM, "SLURM_NTASKS": "4"}.items():
        monkeypatch.setenv(name, value)
    assert main(["fit", "--config", "toy.yaml", f"--trainer.devices={devices}", "--trainer.strategy=ddp"]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "SLURM_NTASKS is 4" in lines[0]


@pytest.mark.parametrize("strategy", ["fsdp", "fsdp_cpu_offload", FSDPStrategy(), "deepspeed_stage_2"])
def test_strategies_that_split_the_weights_are_refused(strategy: object) -> None:
    with pytest.raises(UserError, match=r"fsdp|FSDPStrategy|deepspeed"):
        check_strategy(strategy)


@pytest.mark.parametrize("strategy", ["auto", "ddp", "ddp_spawn", DDPStrategy()])
def test_strategies_with_whole_weights_are_taken(strategy: object) -> None:
    check_strategy(strategy)
