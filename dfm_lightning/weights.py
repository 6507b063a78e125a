"""Checks that weights are finite."""

from collections.abc import Iterable

from torch import Tensor

from dfm_lightning.errors import UserError


def is_finite(values: Tensor) -> bool:
    """Tell whether all values are finite numbers."""
    return not values.is_floating_point() or bool(values.detach().isfinite().all())


def check_finite(weights: Iterable[tuple[str, Tensor]], what: str) -> None:
    """Raise `UserError` at the first of some named weights that is infinite or not a number.

    Args:
        weights: the weights by name.
        what: their owner, for the message.
    """
    name = next((name for name, values in weights if not is_finite(values)), None)
    if name is not None:
        raise UserError(
            f"the weights '{name}' of {what} are infinite or not a number, so that nothing can come of it: "
            "use an earlier checkpoint, and look where that training went wrong"
        )
