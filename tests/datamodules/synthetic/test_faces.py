"""Drawn faces show their attributes, and these can be read from the image."""

import pytest
import torch
from drawn_faces import ATTRIBUTES, Face, appearance, draw_faces, faces_from_noise

from datamodules.synthetic.face_attributes import READINGS, FaceAttributes


def faces(count: int) -> Face:
    return faces_from_noise(torch.randn(count, ATTRIBUTES, generator=torch.Generator().manual_seed(0)))


def test_attributes_are_uniform_and_independent() -> None:
    values = torch.stack(faces(20_000), dim=1)
    # Of a uniform number: mean 1/2, deviation 0.289, and a mean of 20000 is within 0.007 of it (3 σ). The rows'
    # common scale, √12 in the mean, makes the ends a little rarer.
    assert (values.mean(dim=0) - 0.5).abs().max() < 0.007
    assert (values.std(dim=0) - 0.289).abs().max() < 0.02
    correlation = torch.corrcoef(values.T) - torch.eye(ATTRIBUTES)
    assert correlation.abs().max() < 0.03


def test_noise_of_any_length_is_the_same_face() -> None:
    z = torch.randn(3, ATTRIBUTES)
    for one, other in zip(faces_from_noise(z), faces_from_noise(3 * z), strict=True):
        torch.testing.assert_close(one, other)


def test_every_attribute_changes_the_image_and_what_it_is_painted_with() -> None:
    base = Face(*torch.full((ATTRIBUTES, 1), 0.3))._replace(hat=torch.tensor([0.9]))
    image, painted = draw_faces(base, 32), appearance(base)
    assert image.min() >= -1
    assert image.max() <= 1
    for name in Face._fields:
        other = base._replace(**{name: torch.tensor([0.1 if name == "hat" else 0.8])})
        assert (draw_faces(other, 32) - image).abs().max() > 0.1, name
        assert (appearance(other) - painted).abs().max() > 0.1, name


@pytest.mark.parametrize("resolution", [32, 64])
def test_attributes_are_read_from_images(resolution: int) -> None:
    given = faces(500)
    reader = FaceAttributes()
    read = reader.read(draw_faces(given, resolution))
    for name, value in (("hat", given.hat), ("glasses", given.glasses), ("long hair", given.hair_length)):
        for side in ("left", "right"):
            right = (read[f"{name}, {side}"][:, 0] > 0.5) == (value > 0.5)
            assert right.float().mean() > 0.98, name
    painted = (appearance(given) + 1) / 2
    for name, first in (("skin", 0), ("hair", 3), ("background", 9), ("shirt", 15)):
        for side in ("left", "right"):
            torch.testing.assert_close(read[f"{name}, {side}"], painted[:, first : first + 3], atol=1e-5, rtol=0)


def test_agreement_and_regions() -> None:
    given = faces(40)
    images = draw_faces(given, 64)
    reader = FaceAttributes()
    agreed = reader.agree(images, images[7])
    regions = reader.regions((64, 64))
    assert set(agreed) == set(regions) == {f"{name}, {side}" for name in READINGS for side in ("left", "right")}
    assert all(value[7] for value in agreed.values())
    assert torch.equal(agreed["glasses, left"], (given.glasses > 0.5) == (given.glasses[7] > 0.5))
    assert 0 < agreed["background, left"].float().mean() < 0.3
    # What lies outside its region changes no reading.
    for name, region in regions.items():
        elsewhere = torch.where(region, images, torch.rand(images.shape))
        torch.testing.assert_close(reader.read(elsewhere)[name], reader.read(images)[name])
        mirrored = regions[name.replace("left", "right")]
        if name.endswith("left"):
            assert torch.equal(region.flip(1), mirrored)
