"""Render a bundle of rays through a radiance field: coarse pass, importance sampling, fine pass."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfm_lightning.forward_models.compositing import composite, compositing_weights
from dfm_lightning.forward_models.placement import Placement
from dfm_lightning.forward_models.ray_sampling import (
    Spacing,
    coarse_distances,
    importance_distances,
    jittered,
    jittered_between_ends,
)
from dfm_lightning.forward_models.skipping import brightest, most_light, query_chosen
from dfm_lightning.signals import (
    BoundedField,
    FieldStage,
    FieldValues,
    PointsName,
    RadianceField,
    RecallingField,
)


class RayRendering(NamedTuple):
    """Settings of ray sampling and compositing; `VolumeRendering` explains each."""

    near: float
    far: float
    coarse_samples: int
    fine_samples: int
    spacing: Spacing
    background: tuple[float, float, float]
    jitter: bool
    random_importance: bool
    train_proposal: bool
    skipped_light: float = 0.0


class RenderedRays(NamedTuple):
    """The observation of each of n rays; colours in [0, 1], depth and distances along the unit ray.

    `proposal_colour` is that of the coarse pass alone. Weights and distances are those of the last pass, sorted
    from near to far.
    """

    colour: Float[Tensor, "b n 3"]
    depth: Float[Tensor, "b n 1"]
    opacity: Float[Tensor, "b n 1"]
    features: Float[Tensor, "b n f"]
    proposal_colour: Float[Tensor, "b n 3"]
    weights: Float[Tensor, "b n s"]
    distances: Float[Tensor, "b n s"]


def points_along_rays(
    origins: Float[Tensor, "b n 3"], directions: Float[Tensor, "b n 3"], distances: Float[Tensor, "b n s"]
) -> Float[Tensor, "b n*s 3"]:
    """Return the points at distances along rays, ray by ray."""
    return (origins[:, :, None] + distances[..., None] * directions[:, :, None]).flatten(1, 2)


def query_along_rays(
    field: RadianceField,
    origins: Float[Tensor, "b n 3"],
    directions: Float[Tensor, "b n 3"],
    distances: Float[Tensor, "b n s"],
    stage: FieldStage,
) -> FieldValues:
    """Query the field at distances along rays; point dimension b (n s)."""
    return field.query(points_along_rays(origins, directions, distances), stage)


def query_again_along_rays(
    field: RadianceField,
    origins: Float[Tensor, "b n 3"],
    directions: Float[Tensor, "b n 3"],
    distances: Float[Tensor, "b n s"],
    stage: FieldStage,
    name: PointsName,
) -> FieldValues:
    """Query the field at distances that other evaluations of a sampling run have too: see `query_along_rays`."""
    if not isinstance(field, RecallingField):
        return query_along_rays(field, origins, directions, distances, stage)
    return field.query_again(points_along_rays(origins, directions, distances), stage, name)


def merged(parts: tuple[FieldValues, FieldValues], order: Int[Tensor, "b n s"]) -> FieldValues:
    """Put the values at two sets of points of each ray into one order along the rays."""
    rays, samples = order.shape[1:]

    def sorted_values(first: Tensor, second: Tensor) -> Tensor:
        both = torch.cat([part.unflatten(1, (rays, -1)) for part in (first, second)], dim=2)
        index = order.view(*order.shape, *[1] * (both.ndim - 3)).expand(-1, -1, samples, *both.shape[3:])
        return both.gather(2, index).flatten(1, 2)

    return FieldValues(*(sorted_values(*pair) for pair in zip(*parts, strict=True)))


def composite_rays(
    values: FieldValues,
    distances: Float[Tensor, "b n s"],
    background: tuple[float, float, float],
    last: Float[Tensor, "b n 1"] | None = None,
) -> RenderedRays:
    """Composite values at n · s points: the result of one pass alone. See `compositing_weights` for `last`."""
    per_ray = distances.shape[1:]
    colour, features = values.colour.unflatten(1, per_ray), values.features.unflatten(1, per_ray)
    weights = compositing_weights(values.density.unflatten(1, per_ray), distances, last)
    opacity = weights.sum(dim=-1, keepdim=True)
    seen = composite(weights, colour) + (1 - opacity) * colour.new_tensor(background)
    depth = (weights * distances).sum(dim=-1, keepdim=True)
    return RenderedRays(seen, depth, opacity, composite(weights, features), seen, weights, distances)


def render_rays(
    field: RadianceField,
    origins: Float[Tensor, "b n 3"],
    directions: Float[Tensor, "b n 3"],
    settings: RayRendering,
    first: int = 0,
    placement: Placement | None = None,
) -> RenderedRays:
    """Render rays with the given origins and unit directions through the field.

    Distances are multiples of the directions, whatever their length. In a `BoundedField` points lie between where
    each ray enters and leaves it, within near and far.

    Args:
        first: number of the first of these rays among those of an image, by which their points are known again.
        placement: where fine points of the run are kept. If it has those of these rays, there is no coarse pass,
            and `proposal_colour` is the colour.
    """
    batch, rays, _ = directions.shape
    samples, last = settings.coarse_samples, None
    if isinstance(field, BoundedField):
        near, far = _within(field, origins, directions, settings)
        last = (far - near) / samples
        distances = coarse_distances(near, far, samples, settings.spacing, directions)
    else:
        distances = coarse_distances(settings.near, settings.far, samples, settings.spacing, directions)
    distances = distances.expand(batch, rays, -1)
    if settings.jitter:
        distances = jittered(distances) if last is not None else jittered_between_ends(distances)
    if settings.fine_samples == 0:
        return composite_rays(
            query_again_along_rays(field, origins, directions, distances, "coarse", ("coarse", first)),
            distances,
            settings.background,
            last,
        )
    proposal = None
    fine = None if placement is None else placement.find(first, batch, rays, settings.fine_samples)
    if fine is None:
        with torch.set_grad_enabled(torch.is_grad_enabled() and settings.train_proposal):
            found = query_again_along_rays(field, origins, directions, distances, "coarse", ("coarse", first))
            coarse = composite_rays(found, distances, settings.background, last)
        proposal = found.density, coarse.colour
        fine = importance_distances(
            distances, coarse.weights, settings.fine_samples, settings.random_importance, middles=last is not None
        )
        if placement is not None:
            placement.place(first, fine)
    every, order = torch.cat([distances, fine], dim=-1).sort(dim=-1)
    if settings.skipped_light > 0 and proposal is not None:
        light = most_light(proposal[0].unflatten(1, distances.shape[1:]), every, order, last)
        chosen = brightest(light, settings.skipped_light).flatten(1, 2)
        values = query_chosen(field, points_along_rays(origins, directions, every), chosen, "fine")
    elif isinstance(field, RecallingField):
        # What is known is known of the coarse points, or of the fine ones: they are asked for apart, and only what
        # comes of it, a few numbers a point, is put in order.
        known = query_again_along_rays(field, origins, directions, distances, "fine", ("coarse", first))
        if placement is None:
            others = query_along_rays(field, origins, directions, fine, "fine")
        else:
            others = query_again_along_rays(field, origins, directions, fine, "fine", ("fine", first))
        values = merged((known, others), order)
    else:
        values = query_along_rays(field, origins, directions, every, "fine")
    rendered = composite_rays(values, every, settings.background, last)
    return rendered if proposal is None else rendered._replace(proposal_colour=proposal[1])


def _within(
    field: BoundedField,
    origins: Float[Tensor, "b n 3"],
    directions: Float[Tensor, "b n 3"],
    settings: RayRendering,
) -> tuple[Float[Tensor, "b n 1"], Float[Tensor, "b n 1"]]:
    """Find where rays begin and end: at one place if they miss the field."""
    near, far = field.crossing(origins, directions)
    near, far = near.clamp(settings.near, settings.far), far.clamp(settings.near, settings.far)
    return near, torch.maximum(near, far)


def rays_per_chunk(field: RadianceField, points_per_ray: int, batch: int, budget: int, item: int) -> int:
    """Compute how many rays of each element of a batch fit into a memory budget in bytes, at `item` bytes a
    number.
    """
    return max(1, budget // (batch * points_per_ray * field.floats_per_point * item))
