"""Distance of a set of images from a set of real ones: Fréchet and kernel distance of Inception's features."""

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.errors import UserError
from dfm_lightning.networks.frozen import Frozen
from dfm_lightning.networks.inception import load_inception

# A covariance has as many degrees of freedom as there are images: below this, FID mostly reflects their number.
FEW_IMAGES = 2048
IMAGES_AT_ONCE = 32
ROWS_AT_ONCE = 2048


def frechet_distance(real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"]) -> float:
    """Compute ‖μ − μ'‖² + tr(C + C' − 2 (C C')^½) in float64 (FID, Heusel et al. 2017, eq. 6); n, m ≥ 2.

    With A'A = C and B'B = C', the trace of (C C')^½ is the sum of the singular values of A B', which avoids the
    root of an asymmetric matrix and has no more rows than there are images.
    """
    if min(len(real), len(fake)) < 2:
        raise ValueError(f"a covariance needs at least 2 rows, got {len(real)} and {len(fake)}")
    means = [features.double().mean(dim=0) for features in (real, fake)]
    deviations = [
        (features.double() - mean) / (len(features) - 1) ** 0.5
        for features, mean in zip((real, fake), means, strict=True)
    ]
    first, second = (torch.linalg.qr(part, mode="r").R for part in deviations)
    cross = torch.linalg.svdvals(first @ second.T).sum()
    variances = sum(part.square().sum() for part in deviations)
    return float((means[0] - means[1]).square().sum() + variances - 2 * cross)


def kernel_distance(real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"]) -> float:
    """Estimate the squared maximum mean discrepancy, unbiased, for the kernel (x'y / d + 1)³ (KID, Bińkowski et
    al. 2018).

    All pairs are used at once, where other programs average over random subsets: the expectation is the same,
    without randomness. It may be negative. n and m are at least 2.
    """
    if min(len(real), len(fake)) < 2:
        raise ValueError(f"the kernel distance needs at least 2 rows, got {len(real)} and {len(fake)}")

    def similarity(a: Tensor, b: Tensor, without_self: bool) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device=a.device)
        for rows in a.split(ROWS_AT_ONCE):
            total += (rows @ b.T / a.shape[1] + 1).pow(3).sum()
        if without_self:
            total -= (a.square().sum(dim=1) / a.shape[1] + 1).pow(3).sum()
        return total / (len(a) * (len(b) - int(without_self)))

    x, y = real.double(), fake.double()
    return float(similarity(x, x, True) + similarity(y, y, True) - 2 * similarity(x, y, False))


class RealismMetrics:
    """FID and KID of images in [−1, 1], if Inception's weights are available.

    Without them nothing can be computed, and `missing` holds the reason. `compare_features` computes both from
    stored features, `warn_of_few` warns of small numbers of images.

    Args:
        weights: torch-fidelity's weights of Inception-v3; by default the file of their name in torch's own cache,
            $TORCH_HOME/hub/checkpoints.
    """

    def __init__(self, weights: str | None = None) -> None:
        self.missing: dict[str, str] = {}
        self._network: Frozen | None = None
        try:
            self._network = load_inception(weights)
        except UserError as error:
            if weights is not None:
                raise
            self.missing = {"fid": str(error), "kid": str(error)}

    @property
    def available(self) -> bool:
        """Tell whether the weights are available."""
        return self._network is not None

    @torch.no_grad()
    def features(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Compute Inception's features of each image, after its last pooling; in float32."""
        assert self._network is not None
        network = self._network.to(images.device)
        pixels = ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte()
        with torch.autocast(images.device.type, enabled=False):
            return torch.cat([network(part)[0] for part in pixels.split(IMAGES_AT_ONCE)])


def compare_features(real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"]) -> dict[str, float]:
    """Compute FID and KID by name; empty for fewer than 2 images on either side, which have neither."""
    if min(len(real), len(fake)) < 2:
        return {}
    return {"fid": frechet_distance(real, fake), "kid": kernel_distance(real, fake)}


def warn_of_few(real: int, fake: int) -> dict[str, str]:
    """Return warnings about FID and KID of this many images, by name; none if there are many."""
    if min(real, fake) < 2:
        reason = f"at least 2 true and 2 sampled images are needed, got {real} and {fake}"
        return {"fid": reason, "kid": reason}
    if min(real, fake) < FEW_IMAGES:
        return {
            "fid": f"of {real} true and {fake} sampled images, biased upwards: compare it only with FIDs of as "
            f"many images, and trust none of fewer than {FEW_IMAGES}; KID is unbiased"
        }
    return {}
