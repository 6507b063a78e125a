"""What is in sight, where it is known: a ball seen from all sides."""

import torch
from ball_scenes import BallField, cameras
from torch import Tensor

from dfm_lightning.geometry.rays import ray_directions, ray_origins
from dfm_lightning.metrics.visibility import seen_from
from dfm_lightning.types import map_tensors, select_views

SIZE, CENTRE = 48, torch.tensor([0.0, 0.0, 3.0])
ball = BallField(torch.zeros(1, 3), CENTRE[None])


def first_hit(origins: Tensor, directions: Tensor) -> Tensor:
    """Distance to the unit ball's surface along rays, 100 where they miss it."""
    offset = CENTRE - origins
    along = (offset * directions).sum(dim=-1)
    gap = offset.square().sum(dim=-1) - along.square()
    return torch.where(gap < 1, along - (1 - gap).clamp(min=0).sqrt(), 100.0)


def test_a_ball_is_seen_on_the_side_that_faces_the_camera() -> None:
    around = map_tensors(lambda t: t[None], cameras(8, SIZE))
    directions, origins = ray_directions(around), ray_origins(around)[:, :, None, None]
    distance = first_hit(origins, directions)
    seen = seen_from(distance[:, :, None], around, distance[:, :1, None], select_views(around, slice(1)))[0, :, 0]

    hit = distance[0] < 50
    normal = (origins + distance[..., None] * directions - CENTRE)[0]
    to_camera = torch.nn.functional.normalize(ray_origins(around)[0, 0] - (normal + CENTRE), dim=-1)
    facing = (normal * to_camera).sum(dim=-1)
    # At the rim, depth is interpolated between ball and background, and within the tolerance.
    assert seen[hit & (facing > 0.25)].all()
    assert not seen[hit & (facing < -0.5)].any()
    assert hit.sum() > 8 * 200
    assert seen[0][hit[0]].float().mean() > 0.95, "a view sees itself"
    assert not seen[4][hit[4]].any(), "nothing of the opposite side"


def test_what_lies_behind_the_camera_or_beside_its_image_is_not_seen() -> None:
    around = map_tensors(lambda t: t[None], cameras(2, SIZE))
    flat = torch.full((1, 2, 1, SIZE, SIZE), 100.0)
    seen = seen_from(flat, around, flat[:, :1], select_views(around, slice(1)))[0, :, 0]
    assert seen[0].all()
    assert not seen[1].any(), "the opposite camera looks at points far behind the first"
    both = seen_from(flat, around, flat, around)
    assert both.all(), "each sees itself"
