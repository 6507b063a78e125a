"""Checks that weights are finite."""

import itertools
from collections.abc import Iterable

from torch import Tensor, nn

from dfm_lightning.errors import UserError


def is_finite(values: Tensor) -> bool:
    """Tell whether all values are finite numbers."""
    return not values.is_floating_point() or bool(values.detach().isfinite().all())


def check_usable(model: nn.Module, what: str) -> None:
    """Raise `UserError` if a parameter of a model is not finite, or a buffer not a number.

    Buffers may be infinite: masks of attention are.

    Args:
        model: the model.
        what: the model, or the file that its weights come from, for the message.
    """
    buffers = (
        (name, values.nan_to_num(nan=float("nan")))
        for name, values in model.named_buffers()
        if values.is_floating_point()
    )
    check_finite(itertools.chain(model.named_parameters(), buffers), what)


def check_finite(weights: Iterable[tuple[str, Tensor]], what: str) -> None:
    """Raise `UserError` at the first of some named weights that is infinite or not a number.

    Args:
        weights: the weights by name.
        what: their owner, for the message.
    """
    name = next((name for name, values in weights if not is_finite(values)), None)
    if name is not None:
        raise UserError(
            f"the weights '{name}' of {what} are infinite or not a number: use an earlier checkpoint, "
            "and find out where that training went wrong"
        )
