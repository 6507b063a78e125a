"""Points that choose their colour."""

import torch
from torch import Tensor

from dfm_lightning.networks.point_decoder import ContextLight, PointDecoder, PointViews


def decoder_and_inputs(views: int = 3, points: int = 40) -> tuple[PointDecoder, list]:
    torch.manual_seed(0)
    decoder = PointDecoder(volume_channels=5, view_channels=4, level_channels=2, palette=6, width=8)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    seen_by = PointViews(
        torch.randn(2, views, points, 4),
        torch.rand(2, views, points, 3),
        torch.randn(2, views, points, 1),
        torch.rand(2, views, points) < 0.7,
    )
    level, summary, palette = torch.randn(2, views, 2), torch.randn(2, 8), torch.rand(2, 6, 3)
    return decoder, [torch.randn(2, points, 5), seen_by, level, summary, palette]


def test_views_count_whatever_their_order() -> None:
    decoder, (volume, views, level, summary, palette) = decoder_and_inputs()
    order = [2, 0, 1]
    turned = PointViews(*(part[:, order] for part in views))
    first = decoder(volume, views, level, summary, palette)
    second = decoder(volume, turned, level[:, order], summary, palette)
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other)


def test_a_view_that_does_not_see_a_point_has_no_part_in_it() -> None:
    decoder, (volume, views, level, summary, palette) = decoder_and_inputs()
    views = views._replace(seen=views.seen.clone())
    views.seen[:, 0] = False
    views.seen[:, 1] = True
    others = views._replace(
        features=views.features.clone(), colour=views.colour.clone(), depth=views.depth.clone()
    )
    others.features[:, 0], others.depth[:, 0] = 7.0, -3.0
    others.colour[:, 0] = 0.5
    for one, other in zip(decoder(volume, views, level, summary, palette),
                          decoder(volume, others, level, summary, palette), strict=True):  # fmt: skip
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


def test_colours_are_mixtures_of_what_there_is_to_choose_from() -> None:
    decoder, (volume, views, level, summary, palette) = decoder_and_inputs()
    colour, density = decoder(volume, views, level, summary, palette)
    assert ((colour >= 0) & (colour <= 1)).all()
    assert (density >= 0).all()
    # With one colour everywhere, and no choice but the views and the palette, a point has that colour.
    with torch.no_grad():
        decoder.output.bias[4] = -1e4
    one = torch.tensor([0.2, 0.5, 0.9])
    everywhere = views._replace(colour=one.expand_as(views.colour))
    colour, _ = decoder(volume, everywhere, level, summary, one.expand_as(palette))
    torch.testing.assert_close(colour, one.expand_as(colour))


def test_colours_of_the_scene_are_hardly_chosen_at_first_and_can_be_chosen() -> None:
    torch.manual_seed(0)
    decoder = PointDecoder(5, 4, 2, 6, 8, scene_colours=2)
    _, (volume, views, level, summary, _) = decoder_and_inputs()
    blue = torch.tensor([0.0, 0.0, 1.0])
    grey = torch.full((2, 6, 3), 0.5)
    views = views._replace(colour=torch.full_like(views.colour, 0.5))
    with torch.no_grad():
        decoder.output.bias[:3] = 0.0  # its own colour is grey, too
        decoder.output.weight[:3] = 0.0
    choices = torch.cat([grey, blue.expand(2, 2, 3)], dim=1)
    colour, _ = decoder(volume, views, level, summary, choices)
    assert (colour - 0.5).abs().max() < 0.05
    with torch.no_grad():
        decoder.scene_choice.bias[1] = 1e4
    colour, _ = decoder(volume, views, level, summary, choices)
    torch.testing.assert_close(colour, blue.expand_as(colour))


def test_fog_at_first_lets_rays_through() -> None:
    torch.manual_seed(0)
    decoder = PointDecoder(5, 4, 2, 6, 8)
    _, inputs = decoder_and_inputs()
    _, density = decoder(*inputs)
    # Over six scene units, the depth of the demo's scenes.
    assert 0 < density.mean() < 0.5


def hidden_decoder() -> tuple[PointDecoder, tuple[Tensor, PointViews, Tensor, Tensor], Tensor]:
    """A decoder with one hidden colour, blue; views are red and green, everything else is black."""
    torch.manual_seed(0)
    decoder = PointDecoder(5, 4, 2, 6, 8, hidden_colours=1)
    _, (volume, views, level, summary, _) = decoder_and_inputs(views=2)
    colours = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])[None, :, None].expand_as(views.colour)
    views = views._replace(colour=colours, seen=torch.ones_like(views.seen))
    with torch.no_grad():
        decoder.output.weight[4:] = 0.0
        decoder.output.bias[4:] = -1e4
    palette = torch.cat([torch.zeros(2, 6, 3), torch.tensor([0.0, 0.0, 1.0]).expand(2, 1, 3)], dim=1)
    return decoder, (volume, views, level, summary), palette


def test_a_view_counts_by_a_power_of_the_light_that_it_gets() -> None:
    decoder, inputs, palette = hidden_decoder()
    with torch.no_grad():
        decoder.hidden_choice.bias.fill_(-1e4)
        decoder.hidden_choice.weight.zero_()
        decoder.occlusion.fill_(2.0)
    points = inputs[0].shape[1]
    decided = torch.ones(2, dtype=torch.bool)
    bright = ContextLight(torch.ones(2, 1, points), decided)
    dim = ContextLight(torch.full((2, 1, points), 0.5), decided)
    before, after = (decoder(*inputs, palette, light)[0] for light in (bright, dim))
    # The first view is the context's, the second the target's, whose share stays; red's falls to a quarter of it.
    torch.testing.assert_close(after[..., 0] / after[..., 1], before[..., 0] / before[..., 1] / 4)
    assert (before[..., 0] > 0).all()


def test_hidden_points_take_the_hidden_colour_at_first_where_it_is_decided() -> None:
    decoder, inputs, palette = hidden_decoder()
    light = torch.zeros(2, 1, inputs[0].shape[1])
    colour, _ = decoder(*inputs, palette, ContextLight(light, torch.tensor([True, False])))
    assert (colour[0, :, 2] > 0.7).all()
    assert (colour[1, :, 2] < 1e-3).all()
    seen, _ = decoder(*inputs, palette, ContextLight(light + 1, torch.tensor([True, True])))
    assert (seen[..., 2] < 0.1).all()
