"""The error for mistakes in the user's input."""


class UserError(Exception):
    """User input cannot be used: a path, a file's content, a setting.

    The message is one line: what was expected, what came, what to do. The `dfm` command prints it without a
    traceback and ends with status 2.
    """

    def __init__(self, message: str) -> None:
        # A data loader re-raises its worker's error with the worker's traceback as its message.
        super().__init__(message.rstrip().rsplit(f"{__name__}.{type(self).__name__}: ", 1)[-1])
