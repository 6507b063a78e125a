"""End a run soon, with its files whole, on request (SIGTERM; SIGHUP, when the terminal closes)."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

# Seconds that a training step may take to finish, and that the whole run may take to clean up.
_STEP_ENDS = 5.0
_RUN_ENDS = 25.0
# Seconds that the first process waits for those it has started.
_OTHERS_END = 10.0
# (Windows has no SIGHUP.)
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(SystemExit):
    """Raised in the main thread of a process that is asked to end; files being written are removed on the way."""


def status_of_signal(number: int) -> int:
    """Return the exit status of a process ended by a signal, as shells report it: 143 for SIGTERM."""
    return 128 + number


def signal_of_status(status: int) -> int | None:
    """Return the signal with this exit status, if `Termination` handles it."""
    return next((number for number in _SIGNALS if status_of_signal(number) == status), None)


class Termination:
    """The response of this process to a request to end.

    It ends at once, wherever it is. While `postponed` is true, the code that set it calls `end` after the training
    step instead, so that the result can be saved; a long step is not waited for.

    Args:
        give_up: called by a timer with the exit status if the process has not ended in time; it must not return.
    """

    def __init__(self, give_up: Callable[[int], Any]) -> None:
        self.postponed = False
        self.others: list[subprocess.Popen] = []
        self._give_up = give_up
        self._asked: int | None = None
        self._ending = False
        self._process = os.getpid()
        self._timers: list[threading.Timer] = []

    @property
    def status(self) -> int | None:
        """Return the exit status, once this process has been asked to end."""
        return None if self._asked is None else status_of_signal(self._asked)

    def handle(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal."""
        if os.getpid() != self._process:  # forked from this process, as workers of a data loader are
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if self._ending:
            return
        if self._asked is None:
            self._asked = number
            self._after(_RUN_ENDS, lambda: self._give_up(status_of_signal(number)))
            if self.postponed:
                self._after(_STEP_ENDS, lambda: os.kill(self._process, number))
                return
        self.end()

    def end(self) -> NoReturn:
        """End the run, since this process or another one of the run has been asked to.

        Raises:
            Terminated: always.
        """
        self._asked = self._asked or signal.SIGTERM
        self._ending = True
        raise Terminated(self.status)

    def wait_for_others(self) -> None:
        """Give the processes that this one has started time to end in order."""
        for other in self.others:
            try:
                other.wait(_OTHERS_END)
            except subprocess.TimeoutExpired:
                other.kill()

    def install(self) -> None:
        """Handle the signals, except those that are ignored (`nohup`).

        This is repeated: Lightning installs a handler of its own first, in which processes wait for each other.
        """
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self.handle)

    def cancel(self) -> None:
        """Stop all timers."""
        for timer in self._timers:
            timer.cancel()

    def _after(self, seconds: float, action: Callable[[], Any]) -> None:
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        timer.start()
        self._timers.append(timer)


_current: list[Termination] = []


def current_termination() -> Termination | None:
    """Return the handler of this process's signals, if any (see `terminated_in_order`)."""
    return _current[-1] if _current else None


@contextmanager
def terminated_in_order(give_up: Callable[[int], Any]) -> Iterator[Termination]:
    """Let signals end the block as `Termination` describes."""
    termination = Termination(give_up)
    if threading.current_thread() is not threading.main_thread():  # the only thread that can handle signals
        yield termination
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    termination.install()
    _current.append(termination)
    try:
        yield termination
    finally:
        termination.cancel()
        _current.remove(termination)
        for number, handler in before.items():
            signal.signal(number, handler)
