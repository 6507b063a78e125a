"""What threads meet, of a logger say, is said at the end of the run: in one line, once."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def errors_of_threads(to_be_kept: Callable[[BaseException], bool]) -> Iterator[list[BaseException]]:
    """Keep those errors that end a thread, instead of printing their tracebacks amid other output.

    Args:
        to_be_kept: whether this is an error that `dfm` says in one line.
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
