"""Scores of a test scene's samples, compared with the deterministic estimate and model-free baselines."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dfm_lightning.callbacks.report_tables import Scores
from dfm_lightning.metrics import ImageMetrics, best_and_mean, psnr, spread
from dfm_lightning.tasks import EvaluatedScene

# Width, in degrees, of the ranges of angles whose views are scored together.
ANGLE_BIN = 30


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

    If the angles of views to the nearest context view are known, the scores of all unseen views, and of those
    in each range of angles, are given as roles of their own. The part of a crop outside its picture counts as
    black in truth and samples (SparseFusion's masked metrics).

    If true distances are known, `distance_error` is the mean relative error of the samples', and
    `estimate_distance_error` the estimate's.
    """
    scene = _within_picture(scene)
    roles = list(dict.fromkeys(scene.roles))
    scores = {role: _score_role(scene, role, metrics, mean_image) for role in roles}
    for group, names in _groups_by_angle(scene).items():
        regrouped = scene._replace(roles=names)
        scores[group] = _score_role(regrouped, group, metrics, mean_image)
    return scores


def _within_picture(scene: EvaluatedScene) -> EvaluatedScene:
    """Blacken the parts of a scene's views that lie outside the pictures from which they were cropped."""
    if "valid" not in scene.known:
        return scene
    outside = scene.known["valid"] < 0.5
    return scene._replace(
        truth=scene.truth.masked_fill(outside, -1),
        samples=scene.samples.masked_fill(outside, -1),
        estimate=scene.estimate.masked_fill(outside, -1),
    )


def _groups_by_angle(scene: EvaluatedScene) -> dict[str, list[str]]:
    """Split the unseen views by their angle to the nearest context view; give a role to each part and to all."""
    if "angle" not in scene.known:
        return {}
    angles = scene.known["angle"].tolist()
    labels = ["" if role == "context" else _angle_label(a) for a, role in zip(angles, scene.roles, strict=True)]
    groups = {"unseen": ["unseen" if label else "" for label in labels]}
    groups |= {label: labels for label in sorted(set(labels), key=_by_angle) if label}
    return {group: names for group, names in groups.items() if group in names}


def _angle_label(angle: float) -> str:
    """Return the part of 0 to 180 degrees that an angle lies in, as a role."""
    part = min(int(angle // ANGLE_BIN), 180 // ANGLE_BIN - 1)
    return f"{part * ANGLE_BIN} to {(part + 1) * ANGLE_BIN} degrees"


def _by_angle(label: str) -> int:
    return int(label.split(" ")[0]) if label else -1


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
