"""Scores of a test scene's samples, compared with the deterministic estimate and model-free baselines."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dfm_lightning.callbacks.report_tables import Scores
from dfm_lightning.metrics import ImageMetrics, best_and_mean, psnr, spread
from dfm_lightning.tasks import EvaluatedScene


def score_scene(
    scene: EvaluatedScene, metrics: ImageMetrics, mean_image: Float[Tensor, "3 h w"] | None
) -> dict[str, Scores]:
    """Score a scene by the role of its views.

    Of the samples: `psnr_best` and `psnr_mean` (and so on for each metric), and `spread`, how much they differ on
    the scale of [0, 1] (see `metrics.spread`), averaged over pixels; `spread_seen` and `spread_hidden` are its
    averages over what the context shows and what it does not, `psnr_seen` is the samples' PSNR over what it shows.
    Of one image for each view: `mean_psnr`, of the samples' mean; `estimate_psnr`, the deterministic estimate's,
    and the baselines `repeat_context_psnr`, the first context image for every camera, and `mean_image_psnr`, the
    training set's mean. The context views have no baselines.

    If true distances are known, `distance_error` is the mean relative error of the samples', and
    `estimate_distance_error` the estimate's.
    """
    roles = list(dict.fromkeys(scene.roles))
    return {role: _score_role(scene, role, metrics, mean_image) for role in roles}


def _score_role(
    scene: EvaluatedScene, role: str, metrics: ImageMetrics, mean_image: Float[Tensor, "3 h w"] | None
) -> Scores:
    views = [view for view, name in enumerate(scene.roles) if name == role]
    truth, samples = scene.truth[views], scene.samples[:, views]
    seen = scene.seen[views]
    scores = _scores_of_samples(samples, truth, metrics) | _spreads(samples, seen)
    scores |= _seen_score(samples, truth, seen) | _distance_errors(scene, views)
    others = {"mean": samples.mean(dim=0), "estimate": scene.estimate[views]}
    if role != "context":
        others["repeat_context"] = scene.truth[:1].expand_as(truth)
        if mean_image is not None:
            others["mean_image"] = mean_image.to(truth).expand_as(truth)
    for name, images in others.items():
        each = metrics(images, truth)
        scores |= {f"{name}_{metric}": value.double().mean().item() for metric, value in each.items()}
    return scores


def _scores_of_samples(
    samples: Float[Tensor, "s v 3 h w"], truth: Float[Tensor, "v 3 h w"], metrics: ImageMetrics
) -> Scores:
    repeated = truth.expand_as(samples)
    each = metrics(samples.flatten(0, 1), repeated.flatten(0, 1))
    scores: Scores = {}
    for metric, value in each.items():
        best, mean = best_and_mean(metric, value.unflatten(0, samples.shape[:2]))
        scores |= {f"{metric}_best": best, f"{metric}_mean": mean}
    return scores


def _spreads(samples: Float[Tensor, "s v 3 h w"], seen: Bool[Tensor, "v 1 h w"]) -> Scores:
    if len(samples) < 2:
        return {}
    each = spread(samples).double()
    parts = {"spread": torch.ones_like(seen), "spread_seen": seen, "spread_hidden": ~seen}
    return {name: each[part.expand_as(each)].mean().item() for name, part in parts.items() if part.any()}


def _seen_score(
    samples: Float[Tensor, "s v 3 h w"], truth: Float[Tensor, "v 3 h w"], seen: Bool[Tensor, "v 1 h w"]
) -> Scores:
    """Compute the PSNR over what a context view also shows, of each sample's views together, on average."""
    if not seen.any():
        return {}
    shown = [images.movedim(-3, -1)[..., seen[:, 0], :].mT[..., None] for images in (samples, truth)]
    return {"psnr_seen": psnr(shown[0], shown[1].expand_as(shown[0])).double().mean().item()}


def _distance_errors(scene: EvaluatedScene, views: list[int]) -> Scores:
    """Compute the mean relative errors of rendered distances where the true ones are known."""
    if "distance" not in scene.known:
        return {}
    true = scene.known["distance"][views]
    known = true > 0
    if not known.any():
        return {}
    rendered = {
        "distance_error": scene.sample_depths[:, views],
        "estimate_distance_error": scene.estimate_depth[views],
    }
    return {
        name: ((distance - true).abs() / true.clamp(min=1e-6)).double()[known.expand_as(distance)].mean().item()
        for name, distance in rendered.items()
    }
