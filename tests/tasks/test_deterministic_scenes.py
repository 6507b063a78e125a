"""The deterministic baseline: what it trains, that nothing in it is drawn, and that it finds the mean."""

from typing import Any

import pytest
import torch
from ball_scenes import BallDenoiser, batch, cameras, renderer, request
from jaxtyping import Float
from torch import Tensor, nn

from dfm_lightning.errors import UserError
from dfm_lightning.tasks import DeterministicInverseGraphics, SceneObjective
from dfm_lightning.types import Batch, Views, concatenate, map_tensors

OPTIONS: dict[str, Any] = {
    "objective": SceneObjective(proposal_weight=0.0, distortion_weight=0.0, smoothness_weight=0.0),
    "random_context_views": False,
}  # fmt: skip


class LearnedBall(BallDenoiser):
    """A ball whose colour does not depend on the images: the colour is learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.colour = nn.Parameter(torch.zeros(3))

    def deterministic_field(self, context: Views) -> Any:
        return self._ball(self.colour.expand(len(context.observation), 3))

    def forward(self, *arguments: Any) -> Any:
        raise AssertionError("there is no diffusion")


@torch.no_grad()
def test_the_loss_is_that_of_the_deterministic_scene() -> None:
    model = DeterministicInverseGraphics(BallDenoiser(), renderer(), warm_start_steps=5, **OPTIONS).eval()
    model.forward_model.patch_size = 8  # the whole image
    given = batch(["a", "b"])
    compared = concatenate([given.target, given.novel], dim=1)
    field = model.denoiser.deterministic_field(given.context)
    expected = (model.forward_model(field, compared.params) - compared.observation).square()
    terms = model.losses(given)
    torch.testing.assert_close(terms["target"].value, expected[:, :1].mean())
    torch.testing.assert_close(terms["novel"].value, expected[:, 1:].mean())
    assert set(terms) == {"target", "novel"}


def test_every_sample_is_the_same_scene_whatever_the_seed() -> None:
    model = DeterministicInverseGraphics(BallDenoiser(), renderer(), samples=2, **OPTIONS)
    (scene,) = model.test_step(batch(["a"]), 0)["scenes"]
    assert torch.equal(scene.samples[0], scene.samples[1])
    torch.testing.assert_close(scene.samples[0], scene.estimate)
    first, second = model.predictions(request(["a"]))
    assert torch.equal(first.observation, second.observation)
    assert first.signal.views.observation.shape[1] == 1, "no view is sampled"
    assert model.denoiser.calls == 0, "no target is denoised"


def test_work_counts_what_is_told() -> None:
    model = DeterministicInverseGraphics(BallDenoiser(), renderer(), samples=2, **OPTIONS)
    for asked, run in (
        (batch(["a", "b"]), lambda scenes: model.test_step(scenes, 0)),
        (request(["a", "b"]), lambda scenes: list(model.predictions(scenes))),
    ):
        told: list[int] = []
        withdraw = model.plan.follow(told.append)
        run(asked)
        withdraw()
        assert sum(told) == model.work(asked)


def ball_views(colours: Float[Tensor, "b 3"]) -> Batch:
    """Views of balls of given colours, the first the context."""
    where = cameras(4)
    count = len(colours)
    where = map_tensors(lambda t: t.expand(count, *t.shape), where)
    images = renderer().eval()(BallDenoiser()._ball(torch.logit(colours)), where)
    all_views = Views(images, where)
    parts = [map_tensors(lambda t, p=part: t[:, p], all_views) for part in (slice(1), slice(1, 2), slice(2, 4))]
    return Batch(*parts, key=[str(i) for i in range(count)], truth={})


def test_regression_finds_the_mean_of_what_is_possible() -> None:
    """Of two colours that the context does not tell apart, the squared error is least at their mean."""
    torch.manual_seed(0)
    model = DeterministicInverseGraphics(LearnedBall(), renderer(), **OPTIONS)
    model.forward_model.patch_size = 8
    model.forward_model.jitter = False
    colours = torch.tensor([[0.8, 0.2, 0.4], [0.4, 0.6, 0.4]])
    given = ball_views(colours)
    optimizer = torch.optim.Adam([model.denoiser.colour], lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        torch.stack([term.value for term in model.losses(given).values()]).sum().backward()
        optimizer.step()
    torch.testing.assert_close(model.denoiser.colour.sigmoid(), colours.mean(dim=0), atol=0.02, rtol=0)


def test_several_targets_are_refused() -> None:
    model = DeterministicInverseGraphics(BallDenoiser(), renderer(), **OPTIONS)
    given = batch(["a"])
    broken = given._replace(target=map_tensors(lambda t: t.repeat(1, 2, *[1] * (t.ndim - 2)), given.target))
    with pytest.raises(UserError, match="target"):
        model.losses(broken)
