"""The model's noise process in a part of the model that reads it."""

from dfm_lightning.errors import UserError
from dfm_lightning.interfaces import Noising


class HeldProcess:
    """The noise process that a part of a model was told of (see `SignalDenoiser.use_process`).

    It is no module, so that torch does not count the process as a child of the part: the model owns it.
    """

    def __init__(self) -> None:
        self._process: Noising | None = None

    def hold(self, process: Noising, unscaled: str | None = None) -> None:
        """Store the process.

        Args:
            unscaled: what needs noisy observations as they are, for the message.

        Raises:
            UserError: the process scales the inputs of denoisers, and `unscaled` is given.
        """
        if unscaled is not None and getattr(process, "data_std", None) is not None:
            raise UserError(f"{unscaled}: set data_std of the process to null")
        self._process = process

    @property
    def process(self) -> Noising:
        """Return the process. Raises `UserError` if there is none yet."""
        if self._process is None:
            raise UserError(
                "a part of the denoiser needs the model's noise process: use it in a model, or call use_process"
            )
        return self._process
