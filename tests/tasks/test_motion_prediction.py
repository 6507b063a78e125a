"""Motion prediction: its losses, its denoiser, its samples; two motions are told apart in a short training."""

import pytest
import torch
from torch import Tensor

from dfm_lightning.denoisers import ImageToMotion
from dfm_lightning.diffusion import DDIM, ObservationDenoiser
from dfm_lightning.forward_models import ImageWarping
from dfm_lightning.losses import edge_aware_flow_smoothness, edge_aware_smoothness
from dfm_lightning.signals import Motion
from dfm_lightning.tasks import MotionObjective, MotionPrediction
from dfm_lightning.types import Batch, Moment, Views

SIZE = 16


def network(**options: object) -> ImageToMotion:
    torch.manual_seed(0)
    return ImageToMotion(**{"width": 32, "depth": 2, "heads": 2, "patch": 4, **options})


def task(denoiser: ImageToMotion | None = None, **options: object) -> MotionPrediction:
    return MotionPrediction(denoiser or network(), ImageWarping("backward"), sampler=DDIM(5), **options)


def views(image: Tensor, frames: Tensor, time: float) -> Views:
    count = frames.shape[1]
    moments = Moment(image[:, None].expand(-1, count, -1, -1, -1), torch.full((len(image), count), time))
    return Views(frames, moments)


def batch(scenes: int = 2, novel: int = 1) -> Batch:
    torch.manual_seed(1)
    image, target = torch.rand(scenes, 3, SIZE, SIZE), torch.rand(scenes, 1, 3, SIZE, SIZE)
    between = torch.rand(scenes, novel, 3, SIZE, SIZE)
    return Batch(
        views(image, image[:, None], 0.0),
        views(image, target, 1.0),
        views(image, between, 0.5),
        [f"clip{number}" for number in range(scenes)],
        {},
    )


def trained_a_little(model: MotionPrediction) -> MotionPrediction:
    """Moved away from the zeros that it begins with."""
    torch.manual_seed(2)
    for parameter in model.denoiser.network.output.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def test_flow_smoothness_is_that_of_disparity_for_each_component() -> None:
    torch.manual_seed(0)
    image, disparity = torch.rand(2, 3, 6, 7) * 2 - 1, torch.rand(2, 1, 6, 7) + 0.5
    # Divided by its mean, disparity has mean 1: then the two are the same.
    disparity = disparity / disparity.mean(dim=(2, 3), keepdim=True)
    expected = edge_aware_smoothness(1 / disparity, image, 1e-3, 1e3)
    both = torch.cat([disparity, 0 * disparity], dim=1)
    torch.testing.assert_close(2 * edge_aware_flow_smoothness(both, image), expected)
    # Strong edges make changes there almost free.
    step = torch.zeros(1, 2, 4, 4)
    step[..., 2:] = 3.0
    edge = torch.full((1, 3, 4, 4), -1.0)
    edge[..., 2:] = 1.0
    # 4 rows of 16 pixels change by 3, in both components alike.
    expected_value = 4 / 16 * 3 * torch.tensor(-2.0 * 5).exp()
    torch.testing.assert_close(edge_aware_flow_smoothness(step, edge, 5.0), expected_value)
    assert edge_aware_flow_smoothness(step, torch.zeros_like(edge), 5.0).item() == pytest.approx(0.75)


def test_losses_are_what_they_say() -> None:
    model = trained_a_little(task(objective=MotionObjective(smoothness_weight=0.3, edge_strength=2.0)))
    denoised = model.denoise_noised(batch())
    terms = {**model.observation_losses(denoised), **model.regularisers(denoised)}
    assert set(terms) == {"target", "novel", "smoothness"}
    observed, true = denoised.observed.observation, denoised.compared.observation
    torch.testing.assert_close(terms["target"].value, (observed - true)[:, :1].square().mean())
    torch.testing.assert_close(terms["novel"].value, (observed - true)[:, 1:].square().mean())
    image = denoised.batch.context.observation[:, 0]
    expected = edge_aware_flow_smoothness(denoised.signal.flow, image, 2.0)
    torch.testing.assert_close(terms["smoothness"].value, expected)
    assert terms["smoothness"].weight == 0.3


def test_the_length_of_the_flow_can_cost() -> None:
    model = trained_a_little(task(objective=MotionObjective(magnitude_weight=0.5)))
    denoised = model.denoise_noised(batch())
    found = model.regularisers(denoised)["magnitude"]
    assert found.value.item() == pytest.approx(denoised.signal.flow.norm(dim=1).mean().item(), rel=1e-2)
    assert found.weight == 0.5
    still = task(objective=MotionObjective(magnitude_weight=0.5))
    denoised = still.denoise_noised(batch())
    sum(term.value for term in still.regularisers(denoised).values()).backward()
    assert still.denoiser.network.output.linear.weight.grad.isfinite().all()


def test_holes_can_weigh_less() -> None:
    model = trained_a_little(task(network(flow_scale=5.0), objective=MotionObjective(hole_weight=0.25)))
    denoised = model.denoise_noised(batch())
    coverage = denoised.observed.auxiliary.coverage
    assert coverage.min() == 0
    error = (denoised.observed.observation - denoised.compared.observation).square()
    weighted = error * (coverage + 0.25 * (1 - coverage))
    found = model.observation_losses(denoised)["target"].value
    torch.testing.assert_close(found, weighted[:, :1].mean())


def test_perceptual_loss_sees_all_frames() -> None:
    model = task(objective=MotionObjective(perceptual_weight=0.5))
    seen: list[tuple[Tensor, Tensor]] = []

    def perceptual(warped: Tensor, true: Tensor) -> Tensor:
        seen.append((warped, true))
        return torch.tensor(3.0)

    model.objective.perceptual = perceptual
    assert model.regularisers(model.denoise_noised(batch()))["perceptual"] == (torch.tensor(3.0), 0.5)
    assert seen[0][0].shape == (4, 3, SIZE, SIZE)


def test_training_begins_with_no_motion() -> None:
    model = task()
    denoised = model.denoise_noised(batch(novel=0))
    assert denoised.signal.flow.abs().max() == 0
    torch.testing.assert_close(denoised.observed.observation[:, 0], denoised.batch.context.observation[:, 0])
    sum(term.value for term in model.observation_losses(denoised).values()).backward()
    assert model.denoiser.network.output.linear.weight.grad.abs().max() > 0


def test_without_importance_all_pixels_weigh_the_same() -> None:
    model = trained_a_little(task(network(importance=False)))
    signal = model.denoise_noised(batch()).signal
    assert signal.flow.abs().max() > 0
    assert (signal.importance == 0).all()
    assert (trained_a_little(task()).denoise_noised(batch()).signal.importance != 0).any()


def test_a_regression_does_not_see_the_target() -> None:
    scenes = batch(novel=0)
    for sees, differ in ((True, True), (False, False)):
        model = trained_a_little(task(network(sees_target=sees)))
        names = [("test", key, number) for key in scenes.key for number in range(2)]
        flows = model.sample(scenes.context, scenes.target.params, names, (3, SIZE, SIZE)).signal.flow
        assert torch.equal(flows[0], flows[1]) != differ
        assert not torch.equal(flows[0], flows[2])
    with pytest.raises(ValueError, match="flow_scale"):
        network(flow_scale=0.0)
    with pytest.raises(ValueError, match="hole_weight"):
        MotionObjective(hole_weight=2.0)
    with pytest.raises(ValueError, match="samples_at_once"):
        task(samples_at_once=0)


def test_test_draws_the_same_whatever_fits_into_a_batch_and_skips_what_is_finished() -> None:
    scenes = batch()._replace(truth={"flow": torch.zeros(2, 2, SIZE, SIZE)})
    whole, parts = (trained_a_little(task(samples=5, samples_at_once=n)) for n in (5, 2))
    first, second = (model.eval().test_step(scenes, 0)["scenes"] for model in (whole, parts))
    assert [scene.key for scene in first] == ["clip0", "clip1"]
    for a, b in zip(first, second, strict=True):
        assert a.samples.shape == (5, 2, 3, SIZE, SIZE)
        assert a.roles == ["target", "novel"]
        torch.testing.assert_close(a.flows, b.flows, atol=1e-4, rtol=1e-3)
        observed = ImageWarping()(Motion(a.flows, torch.zeros(5, 1, SIZE, SIZE)), _moments(a.image, 5))
        assert observed.shape == (5, 1, 3, SIZE, SIZE)
        assert a.true_motion["flow"].shape == (2, SIZE, SIZE)
    parts.plan.leave_out(lambda key, sample: key == "clip0")
    assert [scene.key for scene in parts.test_step(scenes, 0)["scenes"]] == ["clip1"]


def _moments(image: Tensor, samples: int) -> Moment:
    return Moment(image.expand(samples, 1, -1, -1, -1), torch.ones(samples, 1))


def disc(way: float) -> Tensor:
    """A textured disc in front of a texture, when it has gone some way to the right."""
    y, x = torch.meshgrid(torch.arange(float(SIZE)), torch.arange(float(SIZE)), indexing="ij")
    part = torch.sigmoid(7 - 2 * torch.hypot(x - 7.5 - way, y - 7.5))
    front = torch.stack([1 + 0.3 * torch.sin(0.8 * (x - way)), 0.8 + 0.3 * torch.sin(0.8 * y), 0 * x])
    return -0.5 + part * front + (1 - part) * 0.2 * torch.sin(0.5 * x + 0.3 * y)


@pytest.mark.slow
def test_a_little_training_tells_two_motions_apart_and_a_regression_does_not() -> None:
    images, targets = disc(0).expand(16, -1, -1, -1), torch.stack([disc(-2), disc(2)])
    middle = disc(0)[0] > 0.2
    ways = {}
    for sees_target in (True, False):
        model = task(
            network(sees_target=sees_target),
            objective=MotionObjective(smoothness_weight=0.002, edge_strength=10.0),
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        torch.manual_seed(0)
        for _ in range(300):
            target = targets[torch.randint(2, (16,))][:, None]
            context, novel = views(images, images[:, None], 0.0), views(images, target[:, :0], 0.5)
            scenes = Batch(context, views(images, target, 1.0), novel, ["a"] * 16, {})
            loss = sum(term.value * term.weight for term in model.losses(scenes).values())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        names = [("test", "a", number) for number in range(64)]
        context = views(images[:1], images[:1, None], 0.0)
        drawn = model.eval().sample(context, _moments(disc(0), 1), names, (3, SIZE, SIZE))
        ways[sees_target] = drawn.signal.flow[:, 0, middle].mean(dim=1)
    left, right = (float((ways[True] * sign > 0.5).float().mean()) for sign in (-1, 1))
    assert left + right > 0.9
    # Of 64 draws with even chances, fewer than 16 fall to one side in 0.01% of cases.
    assert min(left, right) >= 0.25
    assert ways[False].std() < 1e-4


# --- guidance ---------------------------------------------------------------------------------------------


def test_guidance_extrapolates_the_motion_from_that_without_an_image() -> None:
    model = trained_a_little(task(guidance_scale=3.0)).eval()
    data = batch(1)
    context, params, noisy = data.context, data.target.params, torch.rand(1, 1, 3, SIZE, SIZE)
    dropped = context._replace(observation=torch.zeros_like(context.observation))
    level = torch.tensor([300])

    def motion(views: Views) -> Motion:
        return model.denoiser(noisy, level, model.denoiser.condition(views, params))

    with torch.no_grad():
        denoise = ObservationDenoiser(
            model.denoiser, model.forward_model, context, params, guidance_scale=3.0, guidance_space="signal"
        )
        guided, known, unknown = denoise(noisy, level), motion(context), motion(dropped)
        flow = unknown.flow + 3 * (known.flow - unknown.flow)
        torch.testing.assert_close(guided.source.flow, flow, rtol=1e-4, atol=1e-4)
        names = [("test", "clip0", 0)]
        drawn = [
            task(model.denoiser, guidance_scale=scale).eval().sample(context, params, names, (3, SIZE, SIZE))
            for scale in (1.0, 3.0)
        ]
    assert not torch.equal(drawn[0].signal.flow, drawn[1].signal.flow)


def test_training_drops_images() -> None:
    model = task(context_dropout=0.5).train()
    torch.manual_seed(0)
    assert 0 < sum(model.drops_context() for _ in range(50)) < 50
