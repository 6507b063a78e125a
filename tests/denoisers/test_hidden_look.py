"""The look of what the context does not show, and how much of a scene the context sees."""

import math
from typing import Any

import pytest
import torch
from test_volume import views_of
from torch import Tensor, nn

from dfm_lightning.denoisers.hidden_look import HiddenLook, LookPlaces
from dfm_lightning.denoisers.visibility import visibility
from dfm_lightning.geometry.rays import project_points, transform_points
from dfm_lightning.geometry.scene_grids import GridFrame, ObjectCube
from dfm_lightning.networks.dit import zero_parameters
from dfm_lightning.networks.volume_lookup import lookup_volume

NEAR, FAR = 2.0, 8.0


def transmittances(density: Tensor, points: Tensor) -> tuple[Tensor, Tensor, GridFrame]:
    """Return T from two cameras to points of two scenes, the points in the cameras' axes, and the frame's map."""
    cameras = views_of(2).params
    frame = ObjectCube(4.0, 2.0, up=(0.0, 1.0, 0.0)).frame(cameras)
    to_camera = torch.linalg.inv(cameras.camera_to_world)
    seen = visibility(density, frame, to_camera, cameras.intrinsics, NEAR, FAR)
    local = transform_points(to_camera, points)
    return seen.transmittance(local, project_points(cameras.intrinsics, local)), local, frame


def test_transmittance_through_a_fog_falls_with_the_distance() -> None:
    """Of a constant density everywhere: T = exp(−σ · (distance − near))."""
    points = torch.tensor([[0.0, 0.1, 4.0], [0.3, 0.0, 3.0], [-0.4, 0.2, 5.0]]).expand(2, -1, -1)
    found, local, _ = transmittances(torch.full((2, 6, 6, 6), 0.3), points)
    # A surface does not hide itself: the last tenth of the way counts for nothing.
    expected = torch.exp(-0.3 * (0.9 * local.norm(dim=-1) - NEAR).clamp(min=0))
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0.02)


def test_transmittance_through_any_density_is_that_of_fine_steps_along_the_ray() -> None:
    torch.manual_seed(0)
    density = nn.functional.interpolate(torch.rand(2, 1, 3, 3, 3) * 2, size=(12, 12, 12), mode="trilinear")[:, 0]
    points = torch.randn(2, 10, 3) * 0.4 + torch.tensor([0.0, 0.0, 4.0])
    found, _, frame = transmittances(density, points)
    centres = views_of(2).params.camera_to_world[:, :, :3, 3]
    for view in range(2):
        ray = points - centres[:, view, None]
        distance = ray.norm(dim=-1, keepdim=True)
        steps = NEAR + (0.9 * distance - NEAR).clamp(min=0) * (torch.arange(400) + 0.5) / 400
        along = centres[:, view, None, None] + (ray / distance)[:, :, None] * steps[..., None]
        values = lookup_volume(density[..., None], frame.places(along.flatten(1, 2))).view(2, 10, 400)
        expected = torch.exp(-values.mean(dim=-1) * (0.9 * distance[..., 0] - NEAR).clamp(min=0))
        torch.testing.assert_close(found[:, view], expected, atol=0.05, rtol=0.1)


def look_and_places(
    looks: int = 2, side: int = 8, unmixed: bool = False
) -> tuple[HiddenLook, Tensor, Tensor, LookPlaces]:
    torch.manual_seed(0)
    look = HiddenLook(looks, 5, width=16, unmixed=unmixed).eval()
    estimate, summary = torch.randn(3, 6, side, side) * 0.4, torch.randn(3, 5)
    with torch.no_grad():
        for parameter in look.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        places = look.places(estimate, summary)
    return look, estimate, summary, places


def test_places_are_averages_and_parts_of_pixels() -> None:
    _, estimate, _, places = look_and_places()
    torch.testing.assert_close(places.weights.sum(dim=-1), torch.ones(3, 2))
    assert (places.shares > 0).all()
    assert (places.shares.sum(dim=1) < 1).all()
    by_hand = torch.einsum("bkn,bcn->bkc", places.weights, estimate[:, :3].flatten(2))
    torch.testing.assert_close(places.colours, by_hand)


def test_without_noise_a_look_is_the_mean_colour_of_its_pixels() -> None:
    look, estimate, summary, places = look_and_places()
    clean = torch.rand(3, 3, 8, 8) * 2 - 1
    found = look(clean, torch.ones(3), torch.zeros(3), estimate, summary, places)
    means = torch.einsum("bkn,bcn->bkc", places.weights, clean.flatten(2))
    torch.testing.assert_close(found.colours, means)
    painted = estimate[:, :3].flatten(2) + (means - places.colours).mT @ places.shares
    torch.testing.assert_close(found.painted.flatten(2), painted)


def test_an_untrained_look_is_the_posterior_mean_of_a_gaussian() -> None:
    """With the network's output at zero: prior N(0, 0.4²) of the change, noise of the average's deviation."""
    look, estimate, summary, places = look_and_places(looks=1)
    zero_parameters(look.colours_net[-1])
    signal, noise = torch.full((3,), 0.3), torch.full((3,), math.sqrt(1 - 0.09))
    noisy = torch.randn(3, 3, 8, 8)
    found = look(noisy, signal, noise, estimate, summary, places)
    average = torch.einsum("bkn,bcn->bkc", places.weights, noisy.flatten(2)) / 0.3
    variance = (1 - 0.09) / 0.09 * places.weights.square().sum(dim=-1, keepdim=True)
    expected = places.colours + 0.16 / (0.16 + variance) * (average - places.colours)
    torch.testing.assert_close(found.colours, expected)


def test_a_target_of_noise_alone_gives_finite_numbers() -> None:
    look, estimate, summary, places = look_and_places()
    found = look(torch.randn(3, 3, 8, 8), torch.zeros(3), torch.ones(3), estimate, summary, places)
    assert found.painted.isfinite().all()
    assert found.colours.abs().max() < 10


def test_unmixing_changes_nothing_at_first() -> None:
    """Nor does it when weights of a look without it are loaded."""
    plain, estimate, summary, _ = look_and_places()
    grown = HiddenLook(2, 5, width=16, unmixed=True).eval()
    missing = grown.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert {name.split(".")[0] for name in missing.missing_keys} == {"unmixing"}
    noisy, rates = torch.randn(3, 3, 8, 8), (torch.full((3,), 0.6), torch.full((3,), 0.8))
    one, other = (
        part(noisy, *rates, estimate, summary, part.places(estimate, summary)) for part in (plain, grown)
    )
    torch.testing.assert_close(one, other)


def test_training_unmixes_averages_that_hold_other_colours_too() -> None:
    """Half of each look's pixels lie beside the hidden part: their mean is half of its colour, even without noise.

    The part is of pixels that the estimate does not tell apart, so that no choice of pixels helps; but the hidden
    colour is one of two, and the other pixels' is told by the summary.
    """
    found = {}
    for unmixed in (False, True):
        torch.manual_seed(0)
        look = HiddenLook(1, 1, width=32, unmixed=unmixed)
        optimizer = torch.optim.Adam(look.parameters(), 2e-2)
        estimate, signal, noise = torch.zeros(32, 6, 4, 4), torch.ones(32), torch.zeros(32)

        def error(look: HiddenLook = look, estimate: Tensor = estimate, rates: Any = (signal, noise)) -> Tensor:
            # The summary tells how much of the region shows the part, its mean alone does not.
            part = torch.where(torch.rand(32, 1) < 0.5, 0.25, 0.75)
            colour = torch.randint(2, (32, 1)) * 1.0 - 0.5
            clean = (part * colour).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
            places = look.places(estimate, part)
            colours = look(clean, *rates, estimate, part, places).colours
            return (colours - colour[:, None]).square().mean()

        for _ in range(80):
            optimizer.zero_grad()
            error().backward()
            optimizer.step()
        with torch.no_grad():
            found[unmixed] = sum(float(error()) for _ in range(10)) / 10
    # Without it the colour is the average exactly, and its error ((1 − part) · colour)².
    assert found[False] == pytest.approx(0.25 * (0.75**2 + 0.25**2) / 2, rel=0.15)
    assert found[True] < 0.005


def test_training_decides_one_of_two_colours_where_a_linear_estimate_cannot() -> None:
    """Half of an image is black or white as a whole: from a noise in which no pixel shows it, the look does."""
    torch.manual_seed(0)
    look = HiddenLook(2, 1, width=32)
    optimizer = torch.optim.Adam(look.parameters(), 2e-2)
    estimate, summary = torch.zeros(32, 6, 8, 8), torch.zeros(32, 1)
    estimate[:, 5, :, 4:] = 1.0
    # Per pixel the noise is four times the signal; over the 32 pixels its mean is 0.7 of it.
    signal, noise = torch.full((32,), 0.2425), torch.full((32,), 0.9701)

    def error() -> Tensor:
        clean = torch.zeros(32, 3, 8, 8)
        clean[:, :, :, 4:] = torch.randint(2, (32, 1, 1, 1)) * 2.0 - 1
        noisy = signal.view(-1, 1, 1, 1) * clean + noise.view(-1, 1, 1, 1) * torch.randn_like(clean)
        places = look.places(estimate, summary)
        return (look(noisy, signal, noise, estimate, summary, places).painted - clean).square().mean()

    for _ in range(60):
        optimizer.zero_grad()
        error().backward()
        optimizer.step()
    with torch.no_grad():
        found = sum(float(error()) for _ in range(20)) / 20
    # Three channels each with noise 0.71: the exact posterior mean's error is 0.03 of an image, the best linear
    # one's 0.07, in which half of the pixels count.
    assert found < 0.055
