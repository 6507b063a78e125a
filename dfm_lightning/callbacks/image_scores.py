"""Image metrics that need weights, as the reports of images hold them: LPIPS, FID and KID."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.metrics import ImageMetrics, RealismMetrics
from dfm_lightning.networks.perceptual import Trunk


class ImageScores:
    """LPIPS of pairs of images, and the features behind FID and KID; without weights neither.

    Args:
        lpips_trunk: the network behind LPIPS; no LPIPS if None.
        lpips_weights: its weights; by default the file of their name in torch's own cache.
        inception_weights: of the network behind FID and KID, with the same default.
    """

    def __init__(
        self, lpips_trunk: Trunk | None, lpips_weights: str | None, inception_weights: str | None
    ) -> None:
        self._trunk: Trunk | None = lpips_trunk
        self._lpips_weights = lpips_weights
        self._inception_weights = inception_weights
        self._similarity: ImageMetrics | None = None
        self._realism: RealismMetrics | None = None

    def load(self) -> None:
        """Load the networks whose weights are there."""
        self._realism = RealismMetrics(self._inception_weights)
        if self._trunk is not None:
            self._similarity = ImageMetrics(self._trunk, self._lpips_weights)

    @property
    def similarity(self) -> ImageMetrics:
        """PSNR, SSIM and LPIPS; after `load`."""
        assert self._similarity is not None
        return self._similarity

    @property
    def missing(self) -> dict[str, str]:
        """The metrics that cannot be computed, with the reason; images too small count once they were measured."""
        assert self._realism is not None
        return self._realism.missing | (self._similarity.missing if self._similarity else {})

    @property
    def description(self) -> str:
        """The metrics, and which of them are missing: what stored scores depend on."""
        missing = self.missing
        names = [] if self._trunk is None else [(f"lpips {self._trunk}", "lpips" in missing)]
        names.append(("fid and kid", "fid" in missing))
        return "; ".join(f"{name}{', missing' if absent else ''}" for name, absent in names)

    @property
    def has_features(self) -> bool:
        """Whether the network behind FID and KID has its weights; after `load`."""
        assert self._realism is not None
        return self._realism.available

    def features(self, images: dict[str, Float[Tensor, "_ 3 h w"]], device: torch.device) -> dict[str, np.ndarray]:
        """Compute the features of sets of images by name, on a device; nothing without weights."""
        if not self.has_features:
            return {}
        assert self._realism is not None
        return {name: self._realism.features(part.to(device)).cpu().numpy() for name, part in images.items()}
