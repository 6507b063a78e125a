"""The contract of models that draw samples, as writers, reports, progress and commands use it."""

from collections.abc import Iterator
from typing import Any, Protocol, cast, runtime_checkable

from dfm_lightning.errors import UserError
from dfm_lightning.sampling.plan import Plan
from dfm_lightning.types import Batch, Prediction, Request

_MEMBERS = ("samples", "plan", "predictions", "work", "settings")


@runtime_checkable
class Predictor(Protocol):
    """A LightningModule that draws samples for scenes. Subclasses of `PredictingModule` need one method to be one.

    `samples` is the number of draws for each scene; `plan` holds the draws to leave out and the listeners to
    progress. `predict_step` returns what `predictions` returns.
    """

    samples: int
    plan: Plan

    def predictions(self, request: Request) -> Iterator[Prediction]:
        """Draw what `plan` does not leave out, scene by scene, as the iterator is advanced."""
        ...

    def work(self, batch: Batch | Request) -> int:
        """Count the pieces of work in a test (`Batch`) or a prediction (`Request`) if nothing is left out.

        These are the pieces that `plan.worked` counts; a progress bar estimates the time left from them.
        """
        ...

    def settings(self) -> dict[str, Any]:
        """Return everything that samples depend on besides weights, seed and data, as primitives by name."""
        ...


def as_predictor(module: Any, asker: str) -> Predictor:
    """Return a LightningModule as a `Predictor`.

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
