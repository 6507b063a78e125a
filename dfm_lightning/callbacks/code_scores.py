"""Scores of the codes sampled for one patch, compared with the generator's mean code, which needs no model."""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor

from dfm_lightning.callbacks.report_tables import Scores
from dfm_lightning.metrics import best_and_mean, masked_psnr, spread
from dfm_lightning.tasks import EvaluatedPatch


@runtime_checkable
class AttributeReader(Protocol):
    """A reader of attributes from images, each at a known place; it suits only images of the expected kind."""

    # Not jaxtyping: the command line compares annotations before it accepts a class, and no two of jaxtyping's are
    # equal.

    def regions(self, size: tuple[int, int]) -> Any:
        """Return the pixels that each reading uses, in images of a height and width: bool [h w] by reading."""

    def agree(self, images: Any, truth: Any) -> Any:
        """Tell whether each image [n 3 h w] shares an attribute of the true one [3 h w]: bool [n] by reading."""


def score_patch(patch: EvaluatedPatch, attributes: AttributeReader | None) -> dict[str, Scores]:
    """Score one patch's samples, by part of the image.

    "patch" and "hidden", the visible and the hidden part of the image: `psnr_best` and `psnr_mean` of the samples,
    `mean_code_psnr` of the mean code's image, and `spread`, how much samples differ on the scale of [0, 1] (see
    `metrics.spread`). "code": `distance_best` and `distance_mean`, root mean square differences from the true
    code, and `mean_code_distance`. With a reader of attributes also `agree`: the share of samples that have an
    attribute as the true image has it, for attributes within the patch and for those outside it.
    """
    seen = patch.mask[0] > 0.5
    scores: dict[str, Scores] = {}
    for part, mask in (("patch", seen), ("hidden", ~seen)):
        if mask.any():
            scores[part] = _score_pixels(patch, mask)
    scores["code"] = _score_codes(patch)
    if attributes is not None:
        for part, share in _agreement(patch, seen, attributes).items():
            scores.setdefault(part, {})["agree"] = share
    return scores


def _score_pixels(patch: EvaluatedPatch, mask: Bool[Tensor, "h w"]) -> Scores:
    truth = patch.truth[None]
    each = masked_psnr(patch.samples, truth.expand_as(patch.samples), mask)
    best, mean = best_and_mean("psnr", each[:, None])
    of_mean_code = masked_psnr(patch.mean_image[None], truth, mask)
    scores = {"psnr_best": best, "psnr_mean": mean, "mean_code_psnr": float(of_mean_code)}
    if len(patch.samples) > 1:
        scores["spread"] = float(spread(patch.samples)[:, mask].double().mean())
    return scores


def _score_codes(patch: EvaluatedPatch) -> Scores:
    distances = (patch.codes - patch.true_code).double().square().mean(dim=(1, 2)).sqrt()
    of_mean = (patch.mean_code - patch.true_code).double().square().mean().sqrt()
    return {
        "distance_best": float(distances.min()),
        "distance_mean": float(distances.mean()),
        "mean_code_distance": float(of_mean),
    }


def _agreement(patch: EvaluatedPatch, seen: Bool[Tensor, "h w"], attributes: AttributeReader) -> dict[str, float]:
    """Compute the share of samples that agree, of attributes within and outside the patch; skip others."""
    size = (seen.shape[0], seen.shape[1])
    agreed = attributes.agree(patch.samples, patch.truth)
    shares: dict[str, list[Tensor]] = {"patch": [], "hidden": []}
    for name, region in attributes.regions(size).items():
        inside = seen[region]
        if len(inside) > 0 and bool(inside.all() or not inside.any()):
            shares["patch" if bool(inside.all()) else "hidden"].append(agreed[name].float().mean())
    return {part: float(torch.stack(values).mean()) for part, values in shares.items() if values}
