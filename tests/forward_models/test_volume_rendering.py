import math

import pytest
import torch
from known_fields import KnownField, cameras_at, position_colour
from torch import Tensor

from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.forward_models.compositing import compositing_weights
from dfm_lightning.signals import FieldStage, FieldValues
from dfm_lightning.types import Views, map_tensors

NEAR, FAR = 1.0, 5.0


def evaluation(**settings: object) -> VolumeRendering:
    return VolumeRendering(**{"near": NEAR, "far": FAR, **settings}).eval()


def constant(value: float) -> object:
    return lambda points: torch.full_like(points[..., 0], value)


def ball(centre: list[float], radius: float, density: float) -> object:
    def inside(points: Tensor) -> Tensor:
        return density * ((points - points.new_tensor(centre)).norm(dim=-1) < radius).to(points)

    return inside


# --- closed forms -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fine", [0, 16])
def test_constant_density_everywhere(fine: int) -> None:
    """Quadrature is exact for constant density: opacity 1 − exp(−σ L), L from near to far and one interval on."""
    sigma, samples, background = 0.3, 33, (1.0, 0.5, 0.0)
    field = KnownField(constant(sigma), lambda points: torch.full_like(points, 0.25))
    renderer = evaluation(coarse_samples=samples, fine_samples=fine, background=background)
    image, details = renderer.observe(field, cameras_at([[0, 0, 0]], 4))
    distances = details.distances[0, 0, 0, 0]
    assert len(distances) == samples + fine
    length = FAR - NEAR + (distances[-1] - distances[-2]).item()
    opacity = 1 - math.exp(-sigma * length)
    torch.testing.assert_close(details.opacity, torch.full_like(details.opacity, opacity), atol=1e-8, rtol=0)
    expected = (0.25 * opacity + (1 - opacity) * image.new_tensor(background)) * 2 - 1
    torch.testing.assert_close(image, expected[:, None, None].expand_as(image), atol=1e-8, rtol=0)


def test_a_ball_of_constant_density() -> None:
    """Rays at impact parameter p cross a chord 2 √(r² − p²): opacity and mean depth follow Beer and Lambert."""
    sigma, radius, centre = 2.0, 0.8, [0.2, 0.0, 3.0]
    field = KnownField(ball(centre, radius, sigma), position_colour)
    renderer = evaluation(coarse_samples=400, fine_samples=400)
    cameras = cameras_at([[0, 0, 0], [0.5, -0.2, 0.5]], 9)
    image, details = renderer.observe(field, cameras)
    middle = cameras.camera_to_world.new_tensor(centre)
    crossed = 0
    for view in range(2):
        for row in range(9):
            for column in range(9):
                x, y = cameras.pixels[0, view, row, column] - 0.5
                direction = torch.stack([x, y, torch.ones_like(x)])
                direction = direction / direction.norm()
                along = (middle - cameras.camera_to_world[0, view, :3, 3]) @ direction
                closest = cameras.camera_to_world[0, view, :3, 3] + along * direction
                gap = radius**2 - (middle - closest).square().sum()
                # Where the ray grazes the ball, no number of samples is enough.
                if 0 < gap < 0.05:
                    continue
                chord = 2 * gap.clamp(min=0).sqrt()
                opacity = 1 - torch.exp(-sigma * chord)
                start = along - chord / 2
                depth = start + 1 / sigma - (start + chord + 1 / sigma) * torch.exp(-sigma * chord)
                crossed += int(gap > 0)
                assert abs(details.opacity[0, view, 0, row, column] - opacity) < 0.01
                assert abs(details.depth[0, view, 0, row, column] - depth * (gap > 0)) < 0.03
    assert crossed > 30
    assert image.min() >= -1
    assert image.max() <= 1


def test_an_opaque_wall_is_seen_where_it_stands_and_in_its_colour() -> None:
    field = KnownField(lambda points: 1e4 * (points[..., 2] > 3).to(points), position_colour)
    renderer = evaluation(coarse_samples=200, fine_samples=200)
    cameras = cameras_at([[0, 0, 0]], 8)
    image, details = renderer.observe(field, cameras)
    ray = torch.cat([cameras.pixels[0, 0] - 0.5, torch.ones(8, 8, 1)], dim=-1)
    torch.testing.assert_close(details.depth[0, 0, 0], 3 * ray.norm(dim=-1), atol=0.02, rtol=0)
    colour = (3 * ray).sigmoid().permute(2, 0, 1) * 2 - 1
    torch.testing.assert_close(image[0, 0], colour, atol=0.02, rtol=0)
    torch.testing.assert_close(details.features[0, 0], 3 * ray[..., :2].permute(2, 0, 1), atol=0.02, rtol=0)


def test_weights_are_those_of_the_rendering_integral() -> None:
    torch.manual_seed(0)
    density, distances = torch.randn(7, dtype=torch.float64), torch.rand(7, dtype=torch.float64).cumsum(0)
    weights = compositing_weights(density, distances)
    transmittance = 1.0
    for index in range(7):
        step = min(index, 5)
        opacity = 1 - math.exp(-max(density[index].item(), 0) * (distances[step + 1] - distances[step]).item())
        assert abs(weights[index].item() - transmittance * opacity) < 1e-9
        transmittance *= 1 - opacity


@pytest.mark.parametrize("fine", [0, 16])
@pytest.mark.parametrize("thickness", [1e-3, 0.25, 0.5, 1.5])
def test_a_wall_at_the_end_is_as_opaque_in_training_as_in_evaluation(fine: int, thickness: float) -> None:
    """On average, and the thin ones always; of a thickness in coarse intervals."""
    samples = 16
    interval = (FAR - NEAR) / (samples - 1)
    wall = KnownField(
        lambda points: (points[..., 2] > FAR - thickness * interval).to(points) * 1.6 / interval, position_colour
    )
    camera = cameras_at([[0, 0, 0]], 1)
    straight = camera._replace(pixels=torch.full((1, 1, 1, 2000, 2), 0.5, dtype=torch.float64))
    renderer, opacity = VolumeRendering(NEAR, FAR, samples, fine), []
    torch.manual_seed(0)
    for training in (True, False):
        seen = renderer.train(training).observe(wall, straight).auxiliary.opacity
        opacity.append(float(seen.mean()))
    assert opacity[0] == pytest.approx(opacity[1], abs=0.01)
    if fine == 0 and thickness <= 0.5:
        # One point in the wall, which stands for the interval before it.
        assert opacity[1] == pytest.approx(1 - math.exp(-1.6))


# --- gradients ----------------------------------------------------------------------------------------------


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    parameters = torch.tensor([0.7, -0.3, 1.2], dtype=torch.float64, requires_grad=True)

    def render(parameters: Tensor) -> tuple[Tensor, Tensor]:
        # Samples follow the coarse pass, which must not move here: they carry no gradient.
        field = KnownField(
            lambda points: torch.exp(-(points - parameters).square().sum(-1)) * parameters[2],
            lambda points: torch.sigmoid(points * parameters[0] + parameters[1]),
        )
        coarse = KnownField(lambda points: points[..., 2].square(), position_colour)
        query = field.query
        field.query = lambda points, stage: (query if stage == "fine" else coarse.query)(points, stage)
        observed = evaluation(coarse_samples=6, fine_samples=5).observe(field, cameras_at([[0, 0, 0]], 2))
        return observed.observation, observed.auxiliary.depth

    assert torch.autograd.gradcheck(render, (parameters,))


@pytest.mark.parametrize("trained", [True, False])
def test_the_proposal_can_be_trained_or_left_alone(trained: bool) -> None:
    height = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    field = KnownField(lambda points: height * points[..., 2].square(), position_colour)
    renderer = evaluation(coarse_samples=5, fine_samples=4, train_proposal=trained)
    observed = renderer.observe(field, cameras_at([[0, 0, 0]], 2))
    assert observed.observation.requires_grad
    assert observed.auxiliary.proposal_observation.requires_grad == trained


def test_checkpointing_changes_neither_values_nor_gradients() -> None:
    gradients, images = [], []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        height = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        field = KnownField(lambda points, h=height: h * points[..., 2].square(), position_colour)
        renderer = VolumeRendering(NEAR, FAR, 5, 4, checkpointing=checkpointing, memory_budget_mb=0.005)
        image = renderer(field, cameras_at([[0, 0, 0]], 4))
        image.square().sum().backward()
        images.append(image.detach())
        gradients.append(height.grad)
    torch.testing.assert_close(*images)
    torch.testing.assert_close(*gradients)


# --- chunks -------------------------------------------------------------------------------------------------


def test_chunks_follow_the_budget_and_change_nothing() -> None:
    field = KnownField(ball([0, 0, 3], 1.0, 1.0), position_colour)
    cameras = cameras_at([[0, 0, 0], [0.3, 0, 0]], 6)
    whole = evaluation(coarse_samples=8, fine_samples=8).observe(field, cameras)
    assert field.sizes == [2 * 36 * 8, 2 * 36 * 16]
    field.sizes.clear()
    # 16 points a ray of 16 float64 numbers each are 2 KiB: 5 rays to 10 KiB.
    cut = evaluation(coarse_samples=8, fine_samples=8, memory_budget_mb=10 / 1024).observe(field, cameras)
    assert max(field.sizes) == 5 * 16
    for one, other in zip([whole.observation, *whole.auxiliary], [cut.observation, *cut.auxiliary], strict=True):
        torch.testing.assert_close(one, other)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 99 bytes."),
]


class SmallMachine(KnownField):
    """A field that runs out of memory above a number of points."""

    def __init__(self, limit: int, error: Exception) -> None:
        super().__init__(ball([0, 0, 3], 1.0, 1.0), position_colour)
        self.limit, self.error, self.refusals = limit, error, 0

    def query(self, points: Tensor, stage: FieldStage) -> FieldValues:
        if points.shape[1] > self.limit:
            self.refusals += 1
            raise self.error
        return super().query(points, stage)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cuda", "cpu", "windows"])
def test_chunks_halve_when_memory_runs_out(error: Exception) -> None:
    cameras = cameras_at([[0, 0, 0]], 6)
    renderer = evaluation(coarse_samples=8, fine_samples=8)
    field = SmallMachine(60, error)
    with torch.no_grad():
        expected = renderer(KnownField(field.density, position_colour), cameras)
        torch.testing.assert_close(renderer(field, cameras), expected)
    # 36 rays of 16 points: 36, 18 and 9 are too many, 5 do not fit either, 3 do: found once, then kept.
    assert field.refusals == 4
    assert max(field.sizes) == 48


def test_memory_that_does_not_suffice_for_one_ray_and_other_errors_are_reported() -> None:
    renderer, cameras = evaluation(coarse_samples=8, fine_samples=8), cameras_at([[0, 0, 0]], 4)
    with torch.no_grad():
        with pytest.raises(torch.OutOfMemoryError):
            renderer(SmallMachine(10, OUT_OF_MEMORY[0]), cameras)
        with pytest.raises(RuntimeError, match="shapes"):
            renderer(SmallMachine(10, RuntimeError("shapes do not match")), cameras)


# --- randomness, patches, corners -------------------------------------------------------------------------


def test_evaluation_is_repeatable_and_training_is_not() -> None:
    field = KnownField(ball([0, 0, 3], 1.0, 1.0), position_colour)
    renderer, cameras = evaluation(coarse_samples=8, fine_samples=8), cameras_at([[0, 0, 0]], 4)
    torch.testing.assert_close(renderer(field, cameras), renderer(field, cameras), rtol=0, atol=0)
    renderer.train()
    first, second = (renderer.observe(field, cameras).auxiliary.distances for _ in range(2))
    assert not torch.equal(first, second)
    coarse_alone = VolumeRendering(NEAR, FAR, 8, 0, jitter=False)
    assert torch.equal(*(coarse_alone.observe(field, cameras).auxiliary.distances for _ in range(2)))


def test_a_patch_shows_what_the_whole_image_shows_there() -> None:
    torch.manual_seed(0)
    field = KnownField(ball([0, 0, 3], 1.0, 1.0), position_colour)
    renderer = evaluation(coarse_samples=8, fine_samples=8, patch_size=3)
    cameras = map_tensors(lambda t: t.repeat(2, *[1] * (t.ndim - 1)), cameras_at([[0, 0, 0], [0.4, 0, 0]], 8))
    images = renderer(field, cameras)
    places = set()
    for _ in range(20):
        patch = renderer.subsample(Views(images, cameras))
        assert patch.observation.shape == (2, 2, 3, 3, 3)
        torch.testing.assert_close(renderer(field, patch.params), patch.observation)
        assert torch.equal(patch.params.pixels[:, 0], patch.params.pixels[:, 1]), "one place for all views"
        places |= {tuple(place) for place in patch.params.pixels[:, 0, 0, 0].tolist()}
    assert len(places) > 10
    xs = sorted({x for x, _ in places})
    assert xs[0] == pytest.approx(0.5 / 8)
    assert xs[-1] == pytest.approx(5.5 / 8)


def test_an_image_smaller_than_a_patch_is_compared_whole() -> None:
    cameras = cameras_at([[0, 0, 0]], 4)
    views = Views(torch.randn(1, 1, 3, 4, 4), cameras)
    patch = evaluation(patch_size=24).subsample(views)
    assert torch.equal(patch.observation, views.observation)
    assert torch.equal(patch.params.pixels, cameras.pixels)


def test_corner_aligned_rendering_reaches_the_cameras_edge() -> None:
    field = KnownField(lambda points: 1e4 * (points[..., 2] > 3).to(points), position_colour)
    settings = {"coarse_samples": 200, "fine_samples": 200}
    cameras = cameras_at([[0, 0, 0]], 5)
    corners = torch.linspace(0, 1, 5, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(corners, corners, indexing="xy"), dim=-1)
    expected = evaluation(**settings)(field, cameras._replace(pixels=grid[None, None]))
    torch.testing.assert_close(evaluation(**settings, corner_aligned=True)(field, cameras), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"near": 2.0, "far": 1.0}, "0 < near < far, got 2.0 and 1.0"),
        ({"coarse_samples": 2}, "got 2"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluation(**settings)


def test_compositing_stays_in_float32_under_mixed_precision() -> None:
    field = KnownField(ball([0, 0, 3], 1.0, 1.0), position_colour)
    renderer, cameras = evaluation(coarse_samples=8, fine_samples=8), cameras_at([[0, 0, 0]], 4, torch.float32)
    plain = renderer.observe(field, cameras)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = renderer.observe(field, cameras)
    assert torch.equal(plain.observation, mixed.observation)
    assert all(torch.equal(*pair) for pair in zip(plain.auxiliary, mixed.auxiliary, strict=True))
