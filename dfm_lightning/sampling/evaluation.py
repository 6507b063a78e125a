"""Draw in evaluation mode, whatever the model's mode: no dropout, ray jitter or (unless turned on) gradients."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

from dfm_lightning.types import map_tensors

Item = TypeVar("Item")
Method = TypeVar("Method", bound=Callable[..., Any])


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluate a module within a block, then restore the mode of each of its parts.

    Gradients are off, but can be turned on inside with `torch.enable_grad()`. (Lightning's inference mode would
    not allow that, so the block leaves it.)
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.inference_mode(False), torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def evaluated(method: Method) -> Method:
    """Run a method of a module as in `evaluating`; tensors among its arguments can be differentiated."""

    @functools.wraps(method)
    def run(self: nn.Module, *args: Any, **keywords: Any) -> Any:
        with evaluating(self):
            return method(self, *differentiable(args), **differentiable(keywords))

    # (It takes and returns what the method does, which a type checker does not see.)
    return run  # type: ignore[return-value]


def advanced_in_evaluation(module: nn.Module, iterator: Iterator[Item]) -> Iterator[Item]:
    """Iterate as in `evaluating` at each advance, without changing the mode of the code in between."""
    while True:
        with evaluating(module):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


def differentiable(tree: Any) -> Any:
    """Copy tensors made in inference mode, which do not support gradients; keep the rest of the tree."""
    return map_tensors(lambda tensor: tensor.clone() if tensor.is_inference() else tensor, tree)
