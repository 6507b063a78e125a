"""Similarity of images to the true ones."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from dfm_lightning.errors import UserError
from dfm_lightning.networks.frozen import Frozen
from dfm_lightning.networks.perceptual import SMALLEST_IMAGE, Trunk, load_lpips

# Equal images have an infinite PSNR, which would dominate every average.
HIGHEST_PSNR = 100.0


def psnr(images: Float[Tensor, "n c h w"], targets: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """Compute the peak signal-to-noise ratio of each image in dB, at most 100. Images are clamped to [−1, 1]."""
    error = (_unit(images) - _unit(targets)).square().flatten(1).mean(dim=1)
    return (-10 * torch.log10(error)).clamp(max=HIGHEST_PSNR)


def masked_psnr(
    images: Float[Tensor, "n c h w"], targets: Float[Tensor, "n c h w"], mask: Bool[Tensor, "h w"]
) -> Float[Tensor, " n"]:
    """Compute the `psnr` of the pixels in a mask, which holds at least one."""
    return psnr(images[:, :, mask][..., None], targets[:, :, mask][..., None])


def ssim(images: Float[Tensor, "n c h w"], targets: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """Compute the structural similarity of each image (Wang et al. 2004: Gaussian window of σ 1.5 pixels)."""
    value = structural_similarity_index_measure(
        _unit(images), _unit(targets), gaussian_kernel=True, sigma=1.5, data_range=1.0, reduction="none"
    )
    assert isinstance(value, Tensor)
    return value.view(-1)


def _unit(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    return (images.float().clamp(-1, 1) + 1) / 2


class ImageMetrics:
    """PSNR, SSIM and, if its weights are available, LPIPS of images in [−1, 1].

    A metric that cannot be computed is absent from the scores and in `missing`, with the reason.

    Args:
        lpips_trunk: the network behind LPIPS.
        lpips_weights: torchvision's weights of that network; by default the file of their name in torch's own
            cache, $TORCH_HOME/hub/checkpoints.
    """

    def __init__(self, lpips_trunk: Trunk = "vgg", lpips_weights: str | None = None) -> None:
        self.missing: dict[str, str] = {}
        self._lpips: Frozen | None = None
        try:
            self._lpips = load_lpips(lpips_trunk, lpips_weights)
        except UserError as error:
            if lpips_weights is not None:
                raise
            self.missing["lpips"] = str(error)

    @torch.no_grad()
    def __call__(
        self, images: Float[Tensor, "n c h w"], targets: Float[Tensor, "n c h w"]
    ) -> dict[str, Float[Tensor, " n"]]:
        """Score each image, by metric."""
        scores = {"psnr": psnr(images, targets), "ssim": ssim(images, targets)}
        if self._lpips is not None and min(images.shape[-2:]) < SMALLEST_IMAGE:
            self.missing["lpips"] = f"LPIPS needs images of at least {SMALLEST_IMAGE} pixels"
        elif self._lpips is not None:
            network = self._lpips.to(images.device)
            scores["lpips"] = network(images.float().clamp(-1, 1), targets.float()).view(-1)
        return scores
