"""The network behind FID and KID: Inception-v3 as Heusel et al. 2017 used it, its weights read from a file."""

import io
from pathlib import Path

import torch
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

from dfm_lightning.networks.frozen import Frozen
from dfm_lightning.networks.weight_files import find_weights, not_the_weights, read_weights

WEIGHTS_FILE = URL_INCEPTION_V3.rsplit("/", 1)[1]
FEATURES = 2048


def load_inception(weights: str | Path | None = None) -> Frozen[FeatureExtractorInceptionV3]:
    """Load torch-fidelity's Inception-v3, frozen: (8-bit images [n, 3, h, w],) → (features [n, 2048],).

    Args:
        weights: torch-fidelity's file, which torchmetrics reads as well; by default the file of that name in
            torch's cache.

    Raises:
        UserError: the file is missing, or is another one.
    """
    path = find_weights(
        WEIGHTS_FILE, URL_INCEPTION_V3, "FID and KID need torch-fidelity's weights of Inception-v3", weights
    )
    content = "torch-fidelity's weights of Inception-v3"
    given = read_weights(path, content, URL_INCEPTION_V3)
    # The constructor would unpickle a file with full trust: it gets a copy of the tensors alone.
    copy = io.BytesIO()
    torch.save(given, copy)
    copy.seek(0)
    try:
        with torch.random.fork_rng(devices=[]):
            return Frozen(FeatureExtractorInceptionV3("inception-v3", [str(FEATURES)], copy))
    except RuntimeError as error:
        raise not_the_weights(path, content, URL_INCEPTION_V3, error) from error
