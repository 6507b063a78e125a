"""Report errors of threads, such as a logger's, at the end of the run, each in one line."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def errors_of_threads(to_be_kept: Callable[[BaseException], bool]) -> Iterator[list[BaseException]]:
    """Collect errors that end a thread, instead of printing their tracebacks amid other output.

    Args:
        to_be_kept: tells whether `dfm` reports an error in one line.
    """
    kept: list[BaseException] = []
    before = threading.excepthook

    def keep(arguments: threading.ExceptHookArgs) -> None:
        error = arguments.exc_value
        if error is not None and to_be_kept(error):
            kept.append(error)
        else:
            before(arguments)

    threading.excepthook = keep
    try:
        yield kept
    finally:
        threading.excepthook = before
