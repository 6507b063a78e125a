"""The task's own losses, its test step, and its way around a trajectory."""

import pytest
import torch
from ball_scenes import BallDenoiser, batch, cameras, renderer, request
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn import functional as F

from dfm_lightning.diffusion import DDIM
from dfm_lightning.errors import UserError
from dfm_lightning.losses import edge_aware_smoothness, ray_distortion
from dfm_lightning.tasks import InverseGraphics, RenderedViews, SampledScene, SceneObjective
from dfm_lightning.types import map_tensors, select_views


def task(**options: object) -> InverseGraphics:
    torch.manual_seed(0)
    return InverseGraphics(BallDenoiser(), renderer(), sampler=DDIM(steps=3), **options)


# --- training ---------------------------------------------------------------------------------------------


def test_each_regulariser_is_what_it_says() -> None:
    model = task()
    scenes = batch(["a", "b"], contexts=2)
    denoised = model.denoise_noised(scenes)
    details, compared = denoised.observed.auxiliary, denoised.compared.observation
    depth = details.depth + (1 - details.opacity) * 5.0
    expected = {
        "estimate": F.mse_loss(denoised.conditioning.estimate[:, :, :3], scenes.target.observation),
        "proposal": F.mse_loss(details.proposal_observation, compared),
        "distortion": ray_distortion(details.weights, details.distances, 1.0, 5.0),
        "smoothness": edge_aware_smoothness(depth.flatten(0, 1), compared.flatten(0, 1), 1.0, 5.0),
    }
    terms = model.regularisers(denoised)
    assert {name: term.value.item() for name, term in terms.items()} == pytest.approx(
        {name: value.item() for name, value in expected.items()}
    )
    assert {name: term.weight for name, term in terms.items()} == {
        "estimate": 1.0,
        "proposal": 1.0,
        "distortion": 0.02,
        "smoothness": 0.02,
    }
    assert all(value > 0 for value in expected.values())
    assert compared.shape == (2, 3, 3, 4, 4), "the target and two novel views, in patches"


def test_the_original_losses_can_be_had() -> None:
    model = task(objective=SceneObjective(proposal_weight=0.0, smoothness_depths=(1e-3, 80.0), fill_depth=False))
    denoised = model.denoise_noised(batch(["a"]))
    details, compared = denoised.observed.auxiliary, denoised.compared.observation
    terms = model.regularisers(denoised)
    expected = edge_aware_smoothness(details.depth.flatten(0, 1), compared.flatten(0, 1), 1e-3, 80.0)
    torch.testing.assert_close(terms["smoothness"].value, expected)
    assert "proposal" not in terms


def test_perceptual_loss_compares_target_and_novel_patches() -> None:
    model = task()
    seen: list[tuple[Tensor, Tensor]] = []

    def perceptual(rendered: Tensor, true: Tensor) -> Tensor:
        seen.append((rendered, true))
        return torch.tensor(3.0)

    model.objective.perceptual = perceptual
    denoised = model.denoise_noised(batch(["a", "b"]))
    assert model.regularisers(denoised)["perceptual"] == (torch.tensor(3.0), 0.2)
    torch.testing.assert_close(seen[0][1], denoised.compared.observation.flatten(0, 1))
    assert seen[0][0].shape == (6, 3, 4, 4)


def test_a_dropped_context_has_no_estimate_to_compare() -> None:
    model = task(context_dropout=1.0)
    logged: list[str] = []
    model.log_dict = lambda values, **_: logged.extend(values)
    model.training_step(batch(["a"]), 0)
    assert "train/estimate" not in logged
    assert "train/target" in logged


def test_warm_start_trains_the_deterministic_part_alone_then_everything() -> None:
    model = task(warm_start_steps=2, random_context_views=False, context_dropout=0.5)
    history: list[tuple[int, set[str]]] = []
    model.log_dict = lambda values, **_: history.append((model.denoiser.calls, set(values)))
    adopted_at: list[int] = []
    model.denoiser.adopt_deterministic_mlp = lambda: adopted_at.append(model.global_step)
    data = torch.utils.data.DataLoader([batch(["a"])] * 3, batch_size=None)
    trainer = Trainer(
        max_steps=3, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, data)
    assert [calls for calls, _ in history] == [0, 0, 1]
    assert adopted_at == [2]
    assert history[0][1] == history[1][1] == {"train/loss", "train/estimate"}
    assert "train/novel" in history[2][1]


def test_validation_is_not_the_warm_start() -> None:
    model = task(warm_start_steps=5).eval()
    assert "novel" in model.losses(batch(["a"]))


def test_the_first_few_context_views_are_used() -> None:
    model, scenes = task(), batch(["a", "b"], contexts=3)
    counts = []
    for _ in range(300):
        context = model.prepare_training_batch(scenes).context
        counts.append(context.observation.shape[1])
        torch.testing.assert_close(context, select_views(scenes.context, slice(counts[-1])))
    assert set(counts) == {1, 2, 3}
    assert all(70 < counts.count(count) < 130 for count in (1, 2, 3))
    assert task(random_context_views=False).prepare_training_batch(scenes) is scenes


def test_the_smoothness_weight_reaches_the_total() -> None:
    scenes = batch(["a"])
    totals = []
    for weight in (0.0, 0.5):
        model = task(objective=SceneObjective(smoothness_weight=weight), random_context_views=False)
        totals.append(model.training_step(scenes, 0).item())
    torch.manual_seed(0)
    model = task(objective=SceneObjective(smoothness_weight=0.5))
    terms = model.losses(scenes)
    assert totals[1] - totals[0] == pytest.approx(0.5 * terms["smoothness"].value.item(), rel=1e-4)


# --- test -------------------------------------------------------------------------------------------------


def test_test_step_hands_out_scenes_with_all_views() -> None:
    model = task(samples=3).eval()
    model.forward_model.eval()
    scenes = batch(["a", "b"], contexts=1, novel=2)
    done: list[int] = []
    model.plan.follow(done.append)
    first, second = model.test_step(scenes, 0)["scenes"]
    assert sum(done) == model.work(scenes)
    assert (first.key, second.key) == ("a", "b")
    assert first.roles == ["context", "target", "novel", "novel"]
    assert first.samples.shape == (3, 4, 3, 8, 8)
    assert first.sample_depths.shape == (3, 4, 1, 8, 8)
    assert first.estimate.shape == (4, 3, 8, 8)
    torch.testing.assert_close(second.truth[1], scenes.target.observation[1, 0])
    assert model.denoiser.conditioned_on == [1], "one sampling run"
    assert not torch.equal(first.samples[0], first.samples[1])


def test_a_scene_is_sampled_alike_in_any_batch() -> None:
    model = task(samples=2).eval()
    both = model.test_step(batch(["a", "b"]), 0)["scenes"]
    alone = model.test_step(batch(["b"]), 0)["scenes"]
    torch.testing.assert_close(both[1].samples, alone[0].samples)


def test_what_lies_behind_something_translucent_is_seen() -> None:
    """Where a ray of the context view misses to be opaque, it ends at `far`, and what is nearer is in sight."""
    model, at = task(), cameras(1)
    both = map_tensors(lambda t: t[None].expand(1, 2, *t.shape[1:]), at)
    shape = (1, 2, 1, 8, 8)

    def seen(context: tuple[float, float], view: tuple[float, float]) -> Tensor:
        depth, opacity = (
            torch.tensor(pair).view(1, 2, 1, 1, 1).expand(shape) for pair in zip(context, view, strict=True)
        )
        rendered = RenderedViews(torch.zeros(1, 2, 3, 8, 8), depth, opacity)
        return model._seen_from_context(rendered, both, 1)[:, 1]

    # Depth is Σ w z: half of a surface at 2 counts 1, and the other half of the ray ends at 5.
    surface = (3.0, 1.0)
    assert seen((1.0, 0.5), surface).all(), "at 3, before 1 + 2.5"
    assert seen((0.0, 0.0), surface).all(), "nothing is in the way"
    assert seen((0.0, 0.0), (0.0, 0.0)).all(), "the background itself"
    assert not seen((2.0, 1.0), surface).any(), "behind something opaque"
    assert not seen((1.9, 0.95), surface).any(), "behind 1.9 + 0.25"


# --- predict ----------------------------------------------------------------------------------------------


def test_each_sampled_view_joins_the_context_of_the_next() -> None:
    model = task(samples=2, autoregressive_steps=3).eval()
    wanted = request(["a"], frames=8)
    predictions = list(model.predictions(wanted))
    assert model.denoiser.conditioned_on == [1, 2, 3, 1, 2, 3], "once for each sampling run"
    assert model.denoiser.calls == 2 * 3 * 3
    assert [prediction.sample for prediction in predictions] == [0, 1]
    scene = predictions[0].signal
    assert isinstance(scene, SampledScene)
    assert scene.views.observation.shape[1] == 4
    torch.testing.assert_close(scene.views.observation[:, :1], wanted.context.observation)
    for position, frame in enumerate([2, 4, 6], start=1):
        expected = wanted.params.camera_to_world[:, frame]
        torch.testing.assert_close(scene.views.params.camera_to_world[:, position], expected)
    assert predictions[0].observation.shape == (8, 3, 8, 8)
    assert scene.depth.shape == (8, 1, 8, 8)
    assert not torch.equal(predictions[0].observation, predictions[1].observation)


def test_an_open_trajectory_is_sampled_at_its_end() -> None:
    model, closed = task(autoregressive_steps=3), cameras(12).camera_to_world
    assert model.target_frames(closed) == [3, 6, 9]
    assert model.target_frames(closed[:10]) == [3, 6, 9]
    assert model.target_frames(closed[:7]) == [2, 4, 6]
    assert task(autoregressive_steps=1).target_frames(closed[:7]) == [6]


def test_the_farthest_view_is_sampled_first_if_asked() -> None:
    closed = cameras(12).camera_to_world
    model = task(autoregressive_steps=3, farthest_first=True)
    assert model.target_frames(closed) == [6, 3, 9]
    assert model.target_frames(closed[:7]) == [6, 2, 4]
    many = task(autoregressive_steps=5, farthest_first=True).target_frames(closed)
    assert many == [6, 2, 4, 8, 10]
    assert sorted(many) == task(autoregressive_steps=5).target_frames(closed)


def test_frames_are_renderings_of_the_last_field_with_their_depth() -> None:
    model = task(samples=1).eval()
    wanted = request(["a"], frames=5)
    (prediction,) = model.predictions(wanted)
    observed = model.forward_model.observe(prediction.signal.field, wanted.params)
    torch.testing.assert_close(prediction.observation, observed.observation[0])
    torch.testing.assert_close(prediction.signal.depth, observed.auxiliary.depth[0])
    # The ball's front is at distance 2 from every camera; towards the image's corner there is nothing.
    centre = prediction.signal.depth[:, 0, 3:5, 3:5]
    assert ((centre > 1.7) & (centre < 2.9)).all()
    assert (prediction.signal.opacity[:, 0, 0, 0] < 0.01).all()


def test_frames_may_have_another_resolution_than_the_context() -> None:
    model = task(samples=1, autoregressive_steps=2).eval()
    (prediction,) = model.predictions(request(["a"], frames=6, size=12))
    assert prediction.observation.shape == (6, 3, 12, 12)
    assert prediction.signal.views.observation.shape == (1, 3, 3, 8, 8)


def test_a_pending_sample_does_not_depend_on_which_others_are() -> None:
    model = task(samples=3).eval()
    every = list(model.predictions(request(["a", "b"])))
    model.plan.leave_out(lambda key, sample: (key, sample) != ("b", 1))
    done: list[int] = []
    model.plan.follow(done.append)
    (alone,) = model.predictions(request(["a", "b"]))
    assert (alone.key, alone.sample) == ("b", 1)
    assert torch.equal(alone.observation, every[4].observation)
    assert sum(done) * 6 == model.work(request(["a", "b"]))


def test_more_steps_than_frames_are_refused() -> None:
    model = task(samples=1, autoregressive_steps=6).eval()
    with pytest.raises(UserError, match=r"\b6\b"):
        list(model.predictions(request(["a"], frames=6)))
    with pytest.raises(ValueError, match=r"\b1\b"):
        task(autoregressive_steps=0)


def test_a_predictions_cameras_are_those_that_its_frames_show() -> None:
    """Also where the model takes the data's pixel corners for 0 and 1: rendered plainly, they give the frames."""
    model = task(samples=1, autoregressive_steps=1).eval()
    model.forward_model.corner_aligned = True
    wanted = request(["a"], frames=3)
    (prediction,) = model.predictions(wanted)
    assert not torch.allclose(prediction.params.intrinsics, wanted.params.intrinsics)
    model.forward_model.corner_aligned = False
    frames = model.render(prediction.signal.field, prediction.params)
    torch.testing.assert_close(frames.image[0], prediction.observation)
