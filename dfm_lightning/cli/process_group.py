"""The process group of a run does not outlive the run."""

import gc
import sys
import threading
from types import ModuleType

# Seconds for it: a group whose processes have all finished their work is gone at once.
_PATIENCE = 5.0


def leave_process_group(patience: float = _PATIENCE) -> bool:
    """Destroy the default process group of this process and the groups within it.

    The threads of a group that is still alive while the interpreter shuts down can abort a process whose work is
    done. Lightning destroys groups of NCCL at exit, and no others.

    Args:
        patience: seconds to wait. A group that was abandoned in the middle of a collective operation waits for its
            peers; it is left behind then, and ends with the process.

    Returns:
        Whether this process is in no group now, or in one that Lightning destroys.
    """
    distributed = sys.modules.get("torch.distributed")  # not imported for this: it takes seconds
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return True
    if distributed.get_backend() == "nccl":
        return True
    # In a thread, since the destructor of a group waits for the group's own threads.
    thread = threading.Thread(target=_destroy, args=(distributed,), name="leave-process-group", daemon=True)
    thread.start()
    thread.join(patience)
    return not thread.is_alive()


def _destroy(distributed: ModuleType) -> None:
    distributed.destroy_process_group()
    # What trained with the group may hold it in cycles of references.
    gc.collect()
