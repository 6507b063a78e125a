"""The error that stands for a mistake in the user's input."""


class UserError(Exception):
    """Something the user gave cannot be used: a path, a file's content, a setting.

    The message is one line: what was expected, what came, what to do. The `dfm` command prints it without a
    traceback and ends with status 2.
    """

    def __init__(self, message: str) -> None:
        # A data loader raises its worker's error again with the worker's traceback for a message.
        super().__init__(message.rstrip().rsplit(f"{__name__}.{type(self).__name__}: ", 1)[-1])
