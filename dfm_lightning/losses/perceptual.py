"""LPIPS as a training loss, kept out of the trained parameters."""

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.networks.frozen import Frozen
from dfm_lightning.networks.perceptual import SMALLEST_IMAGE, Trunk, load_lpips


class PerceptualLoss:
    """The perceptual distance LPIPS between rendered and true images.

    Its network is `Frozen`. `prepare` reads the weights at the start of training; a model that is only tested does
    not need them.

    Args:
        trunk: the network whose features are compared; VGG-16 in the paper.
        weights: torchvision's weights of that network (vgg16-397923af.pth or alexnet-owt-7be5be79.pth); by default
            the file of that name in torch's own cache, $TORCH_HOME/hub/checkpoints.
    """

    def __init__(self, trunk: Trunk = "vgg", weights: str | None = None) -> None:
        self.trunk: Trunk = trunk
        self.weights = weights
        self._network: Frozen | None = None

    def prepare(self) -> None:
        """Read the weights. `UserError` names the missing file and its source."""
        if self._network is None:
            self._network = load_lpips(self.trunk, self.weights)

    def __call__(self, image: Float[Tensor, "n 3 h w"], target: Float[Tensor, "n 3 h w"]) -> Float[Tensor, ""]:
        """Average the distance of images in [−1, 1] with sides of at least 16 pixels; in float32."""
        self.prepare()
        assert self._network is not None
        if min(image.shape[-2:]) < SMALLEST_IMAGE:
            height, width = image.shape[-2:]
            raise ValueError(f"LPIPS needs images of at least {SMALLEST_IMAGE} pixels, got {height}×{width}")
        network = self._network.to(image.device)
        with torch.autocast(image.device.type, enabled=False):
            return network(image.float(), target.float()).mean()
