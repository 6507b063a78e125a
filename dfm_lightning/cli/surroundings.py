"""The processes of a run: the number requested, and the number in environment variables.

Lightning trusts such variables. If they say four, a process started alone waits for three others, or does the work
of four. If they say one, four processes do the same work four times.
"""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from dfm_lightning.errors import UserError
from dfm_lightning.wording import counted

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

# Names of jobs in which SLURM does not start processes, as in Lightning.
_INTERACTIVE = ("bash", "interactive")


_REMEDY = "start dfm as the others are started, or unset the variables that another program has left behind"
_SLURM_REMEDY = (
    "start dfm with srun --ntasks-per-node, or set SLURM_JOB_NAME=bash if SLURM is not to start its processes"
)


class Starter(NamedTuple):
    """A program other than this one that starts the processes of a run.

    Attributes:
        name: its name.
        variable: the variable that holds the number of processes.
        processes: that number.
        remedy: how to start another number; `{processes}` stands for it, as in "2 processes".
    """

    name: str
    variable: str
    processes: int
    remedy: str


# Strategies that split the weights between devices.
_SHARDING = ("fsdp", "deepspeed", "modelparallel")


def is_started_by_slurm() -> bool:
    """Tell whether SLURM has started this process, alone or with others."""
    return "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in _INTERACTIVE


def check_strategy(strategy: Any) -> None:
    """Refuse strategies that split the weights between devices.

    Args:
        strategy: the trainer's argument: a name, or an object.

    Raises:
        UserError: it is such a strategy.
    """
    name = strategy if isinstance(strategy, str) else type(strategy).__name__
    if name.lower().replace("_", "").startswith(_SHARDING):
        raise UserError(
            f"trainer.strategy '{name}' splits the weights between devices, but averaged weights, checkpoints and "
            "the stages of training need them whole on each: set trainer.strategy to ddp"
        )


def find_starter() -> Starter | None:
    """Find what has started this process and others, by the environment variables.

    Raises:
        UserError: the variables do not fit each other.
    """
    if is_started_by_slurm():
        return _slurm()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return _torchrun()
    numbers = _numbers(("WORLD_SIZE", "RANK", "LOCAL_RANK", "NODE_RANK", "MASTER_PORT"))
    if numbers.get("WORLD_SIZE", 1) > 1:
        remedy = "unset WORLD_SIZE, unless other processes of this run are started elsewhere"
        return Starter("the environment", "WORLD_SIZE", numbers["WORLD_SIZE"], remedy)
    return None


def check_processes(starter: Starter | None, devices: Any, machines: Any) -> None:
    """Refuse a run whose number of processes would differ from the request, or whose processes could not find each
    other.

    Args:
        starter: see `find_starter`.
        devices: number of devices on each machine; other forms (a list, "auto") are not checked.
        machines: number of machines.

    Raises:
        UserError: the processes do not fit the request.
    """
    if type(devices) is not int or type(machines) is not int or devices < 1:
        return
    asked = devices * machines
    if starter is not None and starter.processes != asked:
        raise UserError(
            f"{starter.variable} is {starter.processes}, so {starter.name} starts "
            f"{counted(starter.processes, 'process')}, but trainer.devices × trainer.num_nodes is {asked}: "
            f"{starter.remedy.format(processes=counted(asked, 'process'))}, or correct trainer.devices"
        )
    if starter is not None and starter.variable == "SLURM_NTASKS" and asked > 1:
        _compare("SLURM_NTASKS_PER_NODE", "trainer.devices", devices)
        _compare("SLURM_NNODES", "trainer.num_nodes", machines)
    if starter is None or starter.variable == "WORLD_SIZE":
        rank = _numbers(("LOCAL_RANK",)).get("LOCAL_RANK")
        if rank is not None and rank >= devices:
            raise UserError(
                f"LOCAL_RANK is {rank}, but trainer.devices is {devices}: unset LOCAL_RANK, unless this process "
                "is one of several that something else starts"
            )
        if machines > 1 or (rank is not None and asked > 1):
            reason = f"trainer.num_nodes is {machines}" if machines > 1 else f"LOCAL_RANK is {rank}"
            _require(("MASTER_ADDR", "MASTER_PORT"), f"{reason}, so this process is one of several")


def say_processes(trainer: "Trainer", starter: Starter | None) -> None:
    """Report once how many processes a run has."""
    if trainer.is_global_zero:
        where = f" on {counted(trainer.num_nodes, 'machine')}" if trainer.world_size > 1 else ""
        who = f", started by {starter.name}" if starter and trainer.world_size > 1 else ""
        print(f"{counted(trainer.world_size, 'process')}{where}{who}")


def _slurm() -> Starter:
    needed = ("SLURM_NTASKS_PER_NODE", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")
    numbers = _numbers(("SLURM_NTASKS", "SLURM_NNODES", *needed))
    processes = numbers["SLURM_NTASKS"]
    if processes > 1:
        _require(needed, f"SLURM_NTASKS is {processes}, so SLURM starts as many processes", _SLURM_REMEDY)
        if numbers["SLURM_PROCID"] >= processes:
            raise UserError(
                f"SLURM_PROCID is {numbers['SLURM_PROCID']}, but SLURM_NTASKS is {processes}: the variables are "
                f"of different jobs; {_SLURM_REMEDY}"
            )
    return Starter("SLURM", "SLURM_NTASKS", processes, _SLURM_REMEDY)


def _torchrun() -> Starter:
    names = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT")
    _require((*names, "MASTER_ADDR"), "TORCHELASTIC_RUN_ID is set, so torchrun has started this process")
    numbers = _numbers(names)
    if numbers["RANK"] >= numbers["WORLD_SIZE"]:
        raise UserError(
            f"RANK is {numbers['RANK']}, but WORLD_SIZE is {numbers['WORLD_SIZE']}: the variables are of "
            "different runs of torchrun; start dfm with torchrun, or unset TORCHELASTIC_RUN_ID"
        )
    return Starter("torchrun", "WORLD_SIZE", numbers["WORLD_SIZE"], "start torchrun with {processes}")


def _numbers(names: Iterable[str]) -> dict[str, int]:
    """Return the variables that are set, as numbers."""
    given = {name: os.environ[name] for name in names if name in os.environ}
    for name, value in given.items():
        if not value.isdecimal():
            raise UserError(
                f"The variable {name} is a number from 0 on in a run of several processes, got '{value}'"
            )
    return {name: int(value) for name, value in given.items()}


def _require(names: Iterable[str], reason: str, remedy: str = _REMEDY) -> None:
    missing = [name for name in names if name not in os.environ]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise UserError(f"{reason}, but {' and '.join(missing)} {verb} not set: {remedy}")


def _compare(variable: str, setting: str, value: int) -> None:
    given = _numbers((variable,)).get(variable, value)
    if given != value:
        raise UserError(f"{variable} is {given}, but {setting} is {value}: set {setting} to {given}")
