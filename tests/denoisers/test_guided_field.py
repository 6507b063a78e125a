"""Guidance of radiance fields: what is seen is extrapolated, and nothing that nobody sees appears."""

import pytest
import torch
from known_fields import KnownField, cameras_at
from torch import Tensor

from dfm_lightning.denoisers.guided_field import GuidedField
from dfm_lightning.forward_models import VolumeRendering

RED = torch.tensor([1.0, 0.0, 0.0]).double()


def everywhere(colour: Tensor | float, density: float) -> KnownField:
    return KnownField(
        lambda x: torch.full_like(x[..., 0], density), lambda x: torch.as_tensor(colour).to(x) * torch.ones_like(x)
    )


def varied(seed: int, density: float = 3.0, same: bool = False) -> KnownField:
    """Smooth in space, with empty regions; `same`: the density does not depend on the seed."""
    wave = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    shape = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(0 if same else 50 + seed))
    return KnownField(lambda x: density * (x @ shape + 0.5).relu(), lambda x: (x @ wave[:, :3]).sigmoid())


def points(count: int = 400) -> Tensor:
    return torch.randn(2, count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("scale", [1.5, 2.0, 7.0])
def test_a_hidden_colour_is_not_seen(scale: float) -> None:
    """A grey ball in front of nothing, guided away from an empty field whose colour would be red."""
    ball = KnownField(
        lambda x: 0.4 * ((x - torch.tensor([0, 0, 2.0]).to(x)).norm(dim=-1) < 1), lambda x: x * 0 + 0.5
    )
    guided = GuidedField(everywhere(RED, 0.0), ball, scale)
    renderer = VolumeRendering(0.5, 4.0, 200, 0, background=(0.1, 0.1, 0.1)).double().eval()
    camera = cameras_at([[0, 0, 0]], 8)
    observed = renderer.observe(guided, camera)
    alone = renderer.observe(ball, camera)
    grey = (observed.observation + 1) / 2
    torch.testing.assert_close(grey[:, :, 0], grey[:, :, 1])
    torch.testing.assert_close(grey[:, :, 0], grey[:, :, 2])
    # Its density times the scale, and its own colour: e^(−σ length) of the background is left.
    left = (1 - alone.auxiliary.opacity) ** scale
    torch.testing.assert_close(grey[:, :, :1], 0.5 * (1 - left) + 0.1 * left)
    assert observed.auxiliary.opacity.max() > 0.5


@pytest.mark.parametrize("scale", [-1.0, 0.5, 2.0, 4.0])
def test_equally_dense_fields_are_extrapolated_in_colour_alone(scale: float) -> None:
    u, c = varied(1, same=True), varied(2, same=True)
    a, b = (field.query(points(), "fine") for field in (u, c))
    values = GuidedField(u, c, scale).query(points(), "fine")
    torch.testing.assert_close(values.density, a.density)
    dense = a.density > 0
    assert 0 < dense.sum() < dense.numel()
    extrapolated = (a.colour + scale * (b.colour - a.colour)).clamp(0, 1)
    torch.testing.assert_close(values.colour[dense], extrapolated[dense])


@pytest.mark.parametrize("scale", [0.3, 1.5, 2.0, 4.0])
def test_emission_is_extrapolated_where_a_field_can_emit_it(scale: float) -> None:
    u, c = varied(1), varied(2, density=5.0)
    a, b = (field.query(points(), "fine") for field in (u, c))
    values = GuidedField(u, c, scale).query(points(), "fine")
    wanted = a.density + scale * (b.density - a.density)
    torch.testing.assert_close(values.density, wanted.clamp(min=0))
    emission = [v.colour * v.density[..., None] for v in (a, b)]
    guided = emission[0] + scale * (emission[1] - emission[0])
    # Where the conditional field is the denser one (or at a scale below 1), no bound is in the way but [0, 1].
    free = (wanted > 0) & ((b.density >= a.density) | (scale < 1))
    limited = guided.clamp(min=0).minimum(wanted[..., None])
    torch.testing.assert_close((values.colour * values.density[..., None])[free], limited[free])
    assert free.sum() > 50


@pytest.mark.parametrize("scale", [-2.0, 0.0, 0.5, 1.0, 2.0, 9.0])
def test_values_are_possible_and_no_further_than_the_scale_drives_them(scale: float) -> None:
    u, c = varied(1), varied(2)
    a, b = (field.query(points(), "fine") for field in (u, c))
    values = GuidedField(u, c, scale).query(points(), "fine")
    assert (values.density >= 0).all()
    for value, x, y in zip(
        (values.colour, values.features), (a.colour, a.features), (b.colour, b.features), strict=True
    ):
        ends = torch.stack([x, y, x + scale * (y - x)])
        assert (value >= ends.min(dim=0).values.clamp(max=1) - 1e-9).all()
        assert (value <= ends.max(dim=0).values.clamp(min=0) + 1e-9).all()
    assert ((values.colour >= 0) & (values.colour <= 1)).all()
    unseen = values.density == 0
    between = torch.stack([a.colour, b.colour])
    assert (values.colour >= between.min(dim=0).values - 1e-9)[unseen].all()
    assert (values.colour <= between.max(dim=0).values + 1e-9)[unseen].all()


def test_at_scale_0_and_1_it_is_one_of_the_two() -> None:
    u, c = varied(1), varied(2)
    for scale, field in ((0.0, u), (1.0, c)):
        values, expected = GuidedField(u, c, scale).query(points(), "fine"), field.query(points(), "fine")
        seen = expected.density > 0
        torch.testing.assert_close(values.density, expected.density)
        torch.testing.assert_close(values.colour[seen], expected.colour[seen])
        torch.testing.assert_close(values.features[seen], expected.features[seen])


@pytest.mark.parametrize(
    ("unconditional", "conditional"),
    [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (2.0, 1.0), (1e-30, 1e-35), (1e30, 1e30)],
)
def test_nothing_is_infinite_nor_its_gradient(unconditional: float, conditional: float) -> None:
    """At a scale of 2 the third case has no density, the fourth exactly none left."""
    density = torch.tensor([unconditional, conditional], requires_grad=True)
    colours = torch.tensor([0.2, 0.9], requires_grad=True)
    without, given = (
        KnownField(lambda x, i=i: x[..., 0] * 0 + density[i], lambda x, i=i: x * 0 + colours[i]) for i in range(2)
    )
    values = GuidedField(without, given, 2.0).query(torch.zeros(1, 3, 3), "fine")
    total = values.colour.sum() + (values.density * 1e-30).sum()
    total.backward()
    for tensor in (*values, density.grad, colours.grad):
        assert tensor.isfinite().all()


def test_emission_fades_with_the_density() -> None:
    """As the guided density falls to 0 there is no leap: what a point emits falls with it."""
    emitted = []
    for conditional in (0.6, 0.51, 0.501, 0.5, 0.4):
        values = GuidedField(everywhere(0.9, 1.0), everywhere(0.2, conditional), 2.0).query(points(1), "fine")
        emitted.append(float((values.density * values.colour[..., 0]).max()))
        assert emitted[-1] <= max(0.0, 2 * conditional - 1) + 1e-12
    assert emitted == sorted(emitted, reverse=True)
