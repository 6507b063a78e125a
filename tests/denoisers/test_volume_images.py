"""How the volume denoiser's 2D network is trained: alone at first, and later on more images than the target's."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from jaxtyping import Float
from small_volumes import batch_of, model_of
from torch import Tensor

from dfm_lightning.denoisers.volume import VolumeDenoiser
from dfm_lightning.tasks import InverseGraphics
from dfm_lightning.types import Batch


@contextmanager
def looked_at(model: InverseGraphics) -> Iterator[list[tuple[Tensor, ...]]]:
    """Collect noisy images, their rates and estimates, as the part sees them that decides looks."""
    assert isinstance(model.denoiser, VolumeDenoiser)
    assert model.denoiser.look is not None
    seen: list[tuple[Tensor, ...]] = []
    handle = model.denoiser.look.register_forward_pre_hook(lambda _, given: seen.append(given[:4]))
    try:
        yield seen
    finally:
        handle.remove()


def images_of(batch: Batch) -> Float[Tensor, "n 3 h w"]:
    """Target and novel images, scene after scene."""
    return torch.cat([batch.target.observation, batch.novel.observation], dim=1).flatten(0, 1)


@pytest.mark.parametrize(("estimated", "looks"), [(False, 0), (True, 0), (True, 2)])
def test_the_warm_start_trains_the_2d_network_alone(estimated: bool, looks: int) -> None:
    model = model_of(estimated=estimated, looks=looks, warm_start_steps=1).train()
    batch = batch_of(1, 3)
    terms = model.losses(batch)
    assert set(terms) == ({"image", "look"} if looks else {"image"})
    terms["image"].value.backward()
    trained = {name.split(".")[1] for name, value in model.named_parameters() if value.grad is not None}
    assert trained == {"level", "encoder", "summary"} | ({"estimated"} if estimated else set()) | (
        {"look", "follow"} if looks else set()
    )
    model.eval()
    assert "novel" in model.losses(batch)


def test_the_warm_start_noises_every_image_several_times() -> None:
    """The 2D network sees each image three times, each time with another noise at another level."""
    model = model_of(estimated=True, looks=2, warm_start_noises=3, warm_start_steps=1).train()
    batch = batch_of(1, 2)
    with looked_at(model) as seen:
        loss = model.losses(batch)["image"].value
    ((noisy, signal_rate, noise_rate, estimate),) = seen
    clean = images_of(batch).repeat_interleave(3, dim=0)
    noise = (noisy - signal_rate.view(-1, 1, 1, 1) * clean) / noise_rate.view(-1, 1, 1, 1)
    assert noise.std() == pytest.approx(1.0, abs=0.1)
    assert len(noise.flatten(1)[:, 0].unique()) == len(clean) == 2 * 3 * 3
    assert len(signal_rate.unique()) > 2 * 3  # of 1000 levels, a few may be drawn twice
    torch.testing.assert_close(estimate[::3], estimate[2::3])
    assert not torch.allclose(estimate[0], estimate[3])
    assert loss.isfinite()


def test_later_iterations_noise_every_image_too() -> None:
    """With `image_noises`, the 2D network sees all images beside the noisy target; without, that alone."""
    torch.manual_seed(0)
    batch = batch_of(1, 2)
    model = model_of(estimated=True, looks=2, image_noises=2).train()
    with looked_at(model) as seen:
        terms = model.losses(batch)
    clean = images_of(batch).repeat_interleave(2, dim=0)
    noisy, signal_rate, noise_rate, estimate = next(given for given in seen if len(given[0]) == len(clean))
    # The estimate of the target is the one that the volume's own noisy target is given.
    conditioning = model.denoiser.condition(batch.context, batch.target.params)
    torch.testing.assert_close(estimate.unflatten(0, (2, 3, 2))[:, 0, :1], conditioning.estimate)
    noise = (noisy - signal_rate.view(-1, 1, 1, 1) * clean) / noise_rate.view(-1, 1, 1, 1)
    assert noise.std() == pytest.approx(1.0, abs=0.1)
    assert set(terms) == {"target", "novel", "image", "look", "images"}
    assert terms["images"].weight == terms["image"].weight == 0.5
    terms["images"].value.backward()
    trained = {name.split(".")[1] for name, value in model.named_parameters() if value.grad is not None}
    assert trained == {"level", "encoder", "summary", "estimated", "look", "follow"}
    assert "images" not in model_of(estimated=True, looks=2).train().losses(batch)
