"""The process group of a run: which process reports a failure, and how the group ends before the run."""

import gc
import sys
import threading
from types import ModuleType

# Seconds to leave a group. If all its processes have finished, that is immediate, unless the machine is very busy;
# a group abandoned in the middle of a collective operation waits for its peers.
_FINISHED = 60.0
_ABANDONED = 5.0
_CLAIMS = "dfm/failures"


def is_first_to_claim() -> bool | None:
    """Claim a failure for this process, as each process of its group may; return None without a group.

    The claims are counted in the group's store, which processes on all machines share.

    Returns:
        Whether this process was the first, and reports the error.

    Raises:
        ConnectionError: the store has gone with the process that keeps it.
    """
    distributed = _joined()
    if distributed is None:
        return None
    try:
        return distributed.distributed_c10d._get_default_store().add(_CLAIMS, 1) == 1
    except RuntimeError as error:
        raise ConnectionError(str(error)) from error


def leave_process_group(failed: bool = False) -> bool:
    """Destroy the default process group of this process and the groups within it.

    The threads of a group that is alive during interpreter shutdown can abort a process whose work is done.
    Lightning destroys groups of NCCL at exit, and no others.

    Args:
        failed: whether the run has failed, so that the group may have been abandoned while it waits for its peers.
            It is given little time then, and ends with the process.

    Returns:
        Whether this process is now in no group, or in one that Lightning destroys.
    """
    distributed = _joined()
    if distributed is None or distributed.get_backend() == "nccl":
        return True
    # In a thread, since the destructor of a group waits for the group's own threads.
    thread = threading.Thread(target=_destroy, args=(distributed,), name="leave-process-group", daemon=True)
    thread.start()
    thread.join(_ABANDONED if failed else _FINISHED)
    return not thread.is_alive()


def _joined() -> ModuleType | None:
    """Return `torch.distributed` if this process is in a group, without importing it, which takes seconds."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed


def _destroy(distributed: ModuleType) -> None:
    distributed.destroy_process_group()
    # The group may be held in reference cycles of the training.
    gc.collect()
