"""Images drawn for a linear measurement, and their scores."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.forward_models.linear import LinearOperator, conjugate_gradients, one_a_view
from dfm_lightning.metrics import psnr, spread, ssim
from dfm_lightning.types import Views

# The error of AᵀA x = Aᵀy, relative to the right-hand side, at which the search for a projection ends.
_PROJECTION = 1e-5


class LinearSolution(NamedTuple):
    """A drawn image, and the estimates for all images that fit the measurement.

    `mean` estimates the posterior's mean (of least squared error). `directions` are its principal directions,
    orthogonal, each as long as the standard deviation along it; none if the model has no head for them.
    """

    image: Float[Tensor, "1 c h w"]
    mean: Float[Tensor, "c h w"]
    directions: Float[Tensor, "k c h w"]


class EvaluatedImage(NamedTuple):
    """Images drawn for one measurement y = A x + σ n, beside the truth; all in [−1, 1].

    Args:
        key: of the image.
        operator: the class of A.
        physics: A.
        measurement: A†y.
        truth: x.
        mean: the model's estimate of the posterior's mean.
        samples: the drawn images x̂.
        residuals: y − A x̂.
    """

    key: str
    operator: str
    physics: LinearOperator
    measurement: Float[Tensor, "c h w"]
    truth: Float[Tensor, "c h w"]
    mean: Float[Tensor, "c h w"]
    samples: Float[Tensor, "s c h w"]
    residuals: Float[Tensor, "s p q r"]

    @property
    def projected(self) -> Float[Tensor, "s c h w"]:
        """Return x̂ + A†(y − A x̂), the nearest images that explain y best, with the true pseudo-inverse A†.

        A strided blur is decomposed, up to 64 × 64 pixels (which takes up to a minute). Where A† is approximate,
        conjugate gradients on AᵀA approach the true one.
        """
        exact, precise = self.physics.exact(), self.residuals[None]
        if precise.device.type != "mps":
            precise = precise.double()
        back = exact.pseudo_inverse(precise)
        if "adjoint" in exact.abilities:
            pulled = exact.adjoint(precise)
            back = conjugate_gradients(
                lambda images: exact.adjoint(exact.apply(images)), pulled, back.to(pulled), tolerance=_PROJECTION
            )
        return self.samples + back[0].to(self.samples)


def evaluate_images(
    key: str, solutions: list[LinearSolution], truth: Float[Tensor, "c h w"], context: Views
) -> EvaluatedImage:
    """Compare the images drawn for a measurement, the only one in `context`, with it."""
    samples = torch.cat([solution.image for solution in solutions])
    operator = one_a_view(context.params.operator)
    measured = context.observation[:, 0]
    return EvaluatedImage(
        key,
        type(operator).__name__,
        operator,
        operator.pseudo_inverse(measured)[0],
        truth,
        solutions[0].mean,
        samples,
        measured - operator.apply(samples[None])[0],
    )


def score_image(image: EvaluatedImage) -> dict[str, float]:
    """Score the images drawn for one measurement.

    psnr_mean and psnr_best, of the images on average and of the best; psnr_of_mean, of the model's estimate of
    their mean; ssim_mean; consistency, the root mean square of A x̂ − y; and, of several images, psnr_of_average,
    of the average of all that were drawn; spread (see `metrics.spread`); and coverage: the share of pixels whose
    true value lies within the values drawn. For images from the posterior that is `coverage_expected`,
    (n − 1)/(n + 1) of n images.
    """
    images, truth = image.samples, image.truth
    number, truths = len(images), truth.expand(len(images), -1, -1, -1)
    quality = psnr(images, truths)
    scores = {
        "psnr_mean": float(quality.mean()),
        "psnr_best": float(quality.max()),
        "psnr_of_mean": float(psnr(image.mean[None], truth[None])[0]),
        "ssim_mean": float(ssim(images, truths).mean()),
        "consistency": float(image.residuals.square().mean().sqrt()),
    }
    if number > 1:
        within = (images.amin(dim=0) <= truth) & (truth <= images.amax(dim=0))
        scores["psnr_of_average"] = float(psnr(images.mean(dim=0, keepdim=True), truth[None])[0])
        scores["spread"] = float(spread(images).mean())
        scores["coverage"] = float(within.float().mean())
        scores["coverage_expected"] = (number - 1) / (number + 1)
    return scores


def pictures_of(image: EvaluatedImage) -> dict[str, Tensor]:
    """Return the images as pictures by name, each of one view: [1 c h w], or [s 1 c h w] of samples."""
    return {
        "measurement": image.measurement[None],
        "true": image.truth[None],
        "mean": image.mean[None],
        "sample": image.samples[:, None],
    }
