"""If one process fails, only it reports the error; the others exit silently with its status."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from dfm_lightning.cli.process_group import is_first_to_claim
from dfm_lightning.cli.surroundings import is_started_by_slurm
from dfm_lightning.cli.termination import signal_of_status

# Lightning starts further processes by running the command again, with the environment of the first.
_VARIABLE = "DFM_FAILURE_FILE"
# Seconds between checks of the file, and the time that a failed process leaves the others to notice.
_POLL = 0.2
_NOTICE = 1.0
# Seconds that a process may outlive the first process of its run.
_OUTLIVES = 10.0


class SharedFailure:
    """The first failure among the processes of a run: the exit status, in a file.

    When a process ends, those that wait for it fail too, with errors that do not reveal the cause, or wait for
    ever. The first process to fail therefore claims the failure, and the others follow it.

    Args:
        path: the file, in a folder that exists as long as the first process runs. None if there is no place for
            it: each process then reports its own errors.
        is_own: whether this process has made the folder, and was not started by a process that shares it.
    """

    def __init__(self, path: Path | None, is_own: bool = False) -> None:
        self.path = path
        self.is_own = is_own
        self._mine = False

    def claim(self, status: int, may_follow: bool = False) -> bool:
        """Tell whether this process reports the error, and ends the run with this status.

        Args:
            status: the exit status of all processes.
            may_follow: whether the failure may follow from another process's, which is given time to claim it.
        """
        if self.path is not None:
            if may_follow and local_rank() is not None:
                self._wait_for_others(self.path.parent)
            try:
                with self.path.open("x") as file:
                    file.write(str(status))
            except (FileExistsError, FileNotFoundError):  # of another process; or the first process has ended
                return False
            except OSError:  # a full disk, say: better that every process reports it than none
                pass
        self._mine = True
        return self._is_first_of_all(may_follow)

    def _is_first_of_all(self, may_follow: bool) -> bool:
        try:
            first = is_first_to_claim()
        except (
            ConnectionError
        ):  # the process that counts has ended, and what follows from that need not be reported
            return not may_follow
        if first is None:
            # The processes have not met yet. Those of one machine have the same arguments and files, and refuse
            # the same.
            return may_follow or not self.is_own or first_process()
        return first

    @property
    def shows_status(self) -> bool:
        """Tell whether this process may end with the status of a failure.

        Lightning kills the first process as soon as one that it has started ends with another status than 0.
        """
        return self.is_own or first_process()

    def status(self) -> int | None:
        """Return the exit status that another process has claimed, if any."""
        if self._mine or self.path is None:
            return None
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return None
        return int(text) if text else None  # empty: being written

    def followed_status(self, own: int) -> int:
        """Return this process's exit status after a failure of one of them; `own` without one.

        The first process has the run's status; the others end with 0 if they may show no status.
        """
        if self._mine:
            return own
        return (self.status() or own) if self.shows_status else 0

    def is_left_alone(self) -> bool:
        """Tell whether the first process of the run has ended: its folder is gone."""
        return not self.is_own and not first_process() and self.path is not None and not self.path.parent.exists()

    def give_up(self, status: int) -> NoReturn:
        """End this process, and with it the run, at once, whatever it waits for."""
        self.claim(status)
        sys.stdout.flush()
        sys.stderr.flush()
        # The main thread may be waiting in a collective operation, where no exception reaches it.
        os._exit(status if self.shows_status else 0)

    def notify(self) -> None:
        """Give the other processes, if any, time to notice that this one has failed."""
        if self._mine and local_rank() is not None:
            time.sleep(_NOTICE)

    def _wait_for_others(self, folder: Path) -> None:
        until = time.monotonic() + _NOTICE
        while folder.exists() and self.status() is None and time.monotonic() < until:
            time.sleep(_POLL)


def first_process() -> bool:
    """Tell whether this process is the only one of its run on this machine, or the first."""
    return local_rank() in (None, "0")


def local_rank() -> str | None:
    """Return the number of this process among those of its run on this machine; None if it seems to be alone."""
    slurm = "SLURM_LOCALID" if is_started_by_slurm() else ""
    return os.environ.get("LOCAL_RANK", os.environ.get(slurm))


@contextmanager
def shared_failure() -> Iterator[SharedFailure]:
    """Share a failure between this process and those it starts, or the one that started it, within a block.

    A failure of another process ends this one, whatever it waits for.
    """
    given = os.environ.get(_VARIABLE)
    if given is not None:
        with _followed(SharedFailure(Path(given))) as failure:
            yield failure
        return
    try:
        place = TemporaryDirectory(prefix="dfm-")
    except OSError:  # no folder for temporary files: code that needs one will report it
        yield SharedFailure(None)
        return
    with place as folder:
        os.environ[_VARIABLE] = str(Path(folder) / "status")
        try:
            with _followed(SharedFailure(Path(folder) / "status", is_own=True)) as failure:
                yield failure
        finally:
            del os.environ[_VARIABLE]


@contextmanager
def _followed(failure: SharedFailure) -> Iterator[SharedFailure]:
    done = threading.Event()

    def follow() -> None:
        while not done.wait(_POLL):
            status = failure.status()
            if status is None:
                # It may wait for the first process, whose failure had not been noticed under load.
                if failure.is_left_alone() and not done.wait(_OUTLIVES):
                    failure.give_up(0)
                continue
            asked = signal_of_status(status)
            if asked is None:
                failure.give_up(status)
            # So that this process, too, leaves its files in order.
            os.kill(os.getpid(), asked)
            return

    threading.Thread(target=follow, name="follow-failure", daemon=True).start()
    try:
        yield failure
    finally:
        done.set()
        failure.notify()
