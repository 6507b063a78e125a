"""The values that travel through the program: views, batches, cameras, samples.

All are NamedTuples of tensors, which keep their type through `default_collate` and device transfer. Absent values
have zero views; nothing is None. Signals and parameters are of any type here, since a NamedTuple cannot be generic
in Python 3.10; forward models, denoisers and tasks name their types.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Real
from torch import Tensor


class Cameras(NamedTuple):
    """Cameras with OpenCV axes (x right, y down, z forward). Leading dimensions are `v` (data sets) or `b v`.

    `camera_to_world` is relative to the first context camera of its scene; `absolute_pose` is the camera-to-world
    matrix in the data set's own world, for networks conditioned on it. Both are 4×4. `intrinsics` is normalised by
    the image's width (row 0) and height (row 1), with the pixel origin at the image's corner. `pixels` are the
    image positions (x, y) in [0, 1] to be observed, pixel centres at (i + ½)/N. Lengths are in scene units.
    """

    camera_to_world: Float[Tensor, "*v 4 4"]
    intrinsics: Float[Tensor, "*v 3 3"]
    absolute_pose: Float[Tensor, "*v 4 4"]
    pixels: Float[Tensor, "*v h w 2"]


class Moment(NamedTuple):
    """A moment of a motion: the parameters of observations by warping.

    `image` in [-1, 1] is warped; `time` is the elapsed share of its motion: 0 the image itself, 1 the target.
    """

    image: Float[Tensor, "*v 3 h w"]
    time: Float[Tensor, "*v"]


class Views(NamedTuple):
    """Observations and the forward model's parameters φ under which they were made.

    `observation` is in [-1, 1] if it is an image. `params` is a tensor or a NamedTuple of tensors whose leading
    dimensions are also `b v` (for inverse graphics: `Cameras`; for motion: `Moment`).
    """

    observation: Float[Tensor, "*b v c h w"]
    params: Any


class Batch(NamedTuple):
    """The input of a training, validation or test step: observations of the same signals in three roles.

    `context` is given to the denoiser clean, `target` is noised and denoised, `novel` (any number, possibly none)
    is only compared with (DFM eq. 8, 9). `key` names each scene. `truth` holds what only evaluation may use (true
    codes, flows, masks); training never reads it.
    """

    context: Views
    target: Views
    novel: Views
    key: Sequence[str]
    truth: dict[str, Tensor]


class LookLaw(NamedTuple):
    """The possible looks of a scene's hidden part: names, colours in [0, 1], and probabilities.

    A data module of synthetic scenes returns it from `look_law()`. The `truth` of its batches holds for each scene
    the number of its `look`, and the pixels that show it: `hidden` [v 1 h w], from 0 to 1, of context, target,
    novel views.
    """

    names: list[str]
    colours: Float[Tensor, "k 3"]
    probabilities: Float[Tensor, " k"]


class Request(NamedTuple):
    """The input of a predict step: the context, and the parameters under which the signals are to be observed.

    `params` has leading dimensions `b v` like those of `Views`. `key` names each scene. `truth` is for writers
    only, which store it beside the samples; models never read it.
    """

    context: Views
    params: Any
    key: Sequence[str]
    truth: dict[str, Tensor] = {}  # noqa: RUF012


class Observed(NamedTuple):
    """A forward model's output: the observation, and its intermediate results (`()` if none)."""

    observation: Float[Tensor, "b v c h w"]
    auxiliary: Any


class Sample(NamedTuple):
    """One draw for each element of a batch: the signal, and the target observation it came with.

    `scores` say by name how far each draw is to be trusted, [b].
    """

    signal: Any
    observation: Float[Tensor, "b v c h w"]
    scores: dict[str, Float[Tensor, " b"]] = {}  # noqa: RUF012 (nobody changes it)


class Prediction(NamedTuple):
    """One signal of one scene, as `dfm predict` passes it to a writer.

    `sample` counts the draws from 0, `signal` has a batch of one, `observation` is the signal observed under the
    request's parameters `params`. `params`, `context` and `truth` have a batch of one too. `scores` say by
    name how far it is to be trusted.
    """

    key: str
    sample: int
    signal: Any
    observation: Float[Tensor, "v c h w"]
    params: Any
    context: Views
    truth: dict[str, Tensor] = {}  # noqa: RUF012
    scores: dict[str, float] = {}  # noqa: RUF012 (nobody changes it)


class LossTerm(NamedTuple):
    """A loss before weighting, and its weight in the total."""

    value: Float[Tensor, ""]
    weight: float


# Integers where a noise process has integer levels.
Level = Real[Tensor, " b"]


def at_least_float32(tensor: Tensor) -> torch.dtype:
    """Return the precision to compute in with a tensor: its own, or float32 if that is higher."""
    return torch.promote_types(tensor.dtype, torch.float32)


def map_tensors(function: Callable[..., Tensor], tree: Any, *others: Any) -> Any:
    """Apply `function` to each tensor of a tree of tuples, NamedTuples, lists and dicts, keeping its structure.

    Further trees of the same structure supply further arguments. Leaves that are not tensors are kept from the
    first tree.
    """
    if isinstance(tree, Tensor):
        return function(tree, *others)
    if isinstance(tree, dict):
        return {name: map_tensors(function, value, *(o[name] for o in others)) for name, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        children = [map_tensors(function, *nodes) for nodes in zip(tree, *others, strict=True)]
        return type(tree)(*children) if hasattr(tree, "_fields") else type(tree)(children)
    return tree


def on_cpu(tree: Any) -> Any:
    """Move a tree to the CPU, for measuring and writing: half precision becomes float32, which NumPy knows."""
    return map_tensors(lambda t: (t.to(at_least_float32(t)) if t.is_floating_point() else t).cpu(), tree)


def named_tensors(tree: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """List the tensors of a tree, each with its path, such as "signal.depth"; other leaves are left out."""
    if isinstance(tree, Tensor):
        yield name, tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from named_tensors(value, f"{name}.{key}")
    elif isinstance(tree, (tuple, list)):
        fields = getattr(tree, "_fields", range(len(tree)))
        for field, value in zip(fields, tree, strict=True):
            yield from named_tensors(value, f"{name}.{field}")


def concatenate(trees: Iterable[Any], dim: int) -> Any:
    """Concatenate trees of tensors of the same structure along a dimension (0: batch, 1: views)."""
    first, *rest = trees
    return map_tensors(lambda *tensors: torch.cat(tensors, dim), first, *rest)


def select_views(tree: Any, views: slice) -> Any:
    """Select some of the views (dimension 1) of a batched tree of tensors."""
    return map_tensors(lambda tensor: tensor[:, views], tree)


def repeat_batch(tree: Any, times: int) -> Any:
    """Repeat each element of the batch (dimension 0) `times` times, with copies adjacent."""
    return map_tensors(lambda tensor: tensor.repeat_interleave(times, dim=0), tree)


def as_request(scenes: Batch) -> Request:
    """Build a request for signals of these scenes, observed under the parameters of their target and novel views.

    This works for a batch and for an item of a data set, whose tensors begin with the views.
    """
    views = scenes.context.observation.ndim - 4
    params = concatenate([scenes.target.params, scenes.novel.params], dim=views)
    return Request(scenes.context, params, scenes.key, scenes.truth)
