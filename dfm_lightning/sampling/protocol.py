"""What can be tested and predicted with: all that writers, reports, progress and the command line ask for."""

from collections.abc import Iterator
from typing import Any, Protocol, cast, runtime_checkable

from dfm_lightning.errors import UserError
from dfm_lightning.sampling.plan import Plan
from dfm_lightning.types import Batch, Prediction, Request

_MEMBERS = ("samples", "plan", "predictions", "work", "settings")


@runtime_checkable
class Predictor(Protocol):
    """A LightningModule that draws samples for scenes. `PredictingModule` needs one method to become one.

    `samples` is the number of draws for each scene, `plan` says which of them to leave out and who is told of the
    work done. `predict_step` gives what `predictions` gives.
    """

    samples: int
    plan: Plan

    def predictions(self, request: Request) -> Iterator[Prediction]:
        """Draw what `plan` does not leave out, scene by scene, as the iterator is advanced."""
        ...

    def work(self, batch: Batch | Request) -> int:
        """Count the pieces of work that a test (`Batch`) or a prediction (`Request`) takes, nothing left out.

        Those are the pieces that `plan.worked` is told of; a progress bar estimates the time left from them.
        """
        ...

    def settings(self) -> dict[str, Any]:
        """Give all that samples depend on besides weights, seed and data, as primitives by name."""
        ...


def as_predictor(module: Any, asker: str) -> Predictor:
    """Take a LightningModule for a `Predictor`.

    Raises:
        UserError: it is none; the message says who needs one and what is missing.
    """
    missing = [name for name in _MEMBERS if getattr(module, name, None) is None]
    if missing:
        raise UserError(
            f"{asker} needs a model that draws samples, but {type(module).__name__} has no {', '.join(missing)}: "
            "derive it from dfm_lightning.sampling.PredictingModule"
        )
    return cast(Predictor, module)
