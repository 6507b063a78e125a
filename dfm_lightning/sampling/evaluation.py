"""Drawing in evaluation mode, whoever asks: without dropout, ray jitter and, unless turned on, gradients."""

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
    """Evaluate a module for a block, and put every part of it back into the mode it had.

    Gradients are off, but can be turned on inside with `torch.enable_grad()`. (In Lightning's inference mode they
    could not, so the block leaves that mode.)
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

    return run  # type: ignore[return-value]


def advanced_in_evaluation(module: nn.Module, iterator: Iterator[Item]) -> Iterator[Item]:
    """Iterate as in `evaluating` at each advance, and leave whoever consumes the items in the mode they are in."""
    while True:
        with evaluating(module):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


def differentiable(tree: Any) -> Any:
    """The tree with copies in place of tensors made in inference mode, which no gradient can be computed with."""
    return map_tensors(lambda tensor: tensor.clone() if tensor.is_inference() else tensor, tree)
