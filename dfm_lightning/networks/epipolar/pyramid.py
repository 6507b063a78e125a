"""A feature pyramid of a residual network, all levels at one resolution."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from dfm_lightning.networks.weight_files import find_weights, not_the_weights, read_weights
from dfm_lightning.ranges import check_within
from dfm_lightning.record import Recorded

WEIGHTS_FILE = "resnet18-f37072fd.pth"
URL = f"https://download.pytorch.org/models/{WEIGHTS_FILE}"
# Channels that each part adds: the first convolution, then the first three groups of blocks.
_CHANNELS = (64, 64, 128, 256)


class ResNetPyramid(Recorded, nn.Module):
    """The first layers of a ResNet-18 side by side, at half the image's resolution (SparseFusion, A.1).

    Images are given in [0, 1], without ImageNet's normalisation. All levels are resized bilinearly to the first
    one's size, corners aligned.

    Args:
        levels: how many parts are kept, from the first convolution (64 channels) on; 4 as in SparseFusion.
        pretrained: whether training begins with ImageNet's weights, which the file of `weights` holds.
        weights: torchvision's weights of ResNet-18; by default the file of their name in torch's own cache.
    """

    without_effect = frozenset({"pretrained", "weights"})

    def __init__(self, levels: int = 4, pretrained: bool = False, weights: str | None = None) -> None:
        super().__init__()
        check_within(1, len(_CHANNELS), levels=levels)
        network = resnet18(weights=None)
        groups = [network.layer1, network.layer2, network.layer3][: levels - 1]
        self.convolution = network.conv1
        self.norm = network.bn1
        self.groups = nn.ModuleList(groups)
        self.channels = sum(_CHANNELS[:levels])
        self.pretrained = pretrained
        self.weights = weights

    def prepare(self) -> None:
        """Load ImageNet's weights if `pretrained`; a new training calls this at its start.

        Raises:
            UserError: the weights' file is missing or wrong; the message says which is needed and where to get it.
        """
        if not self.pretrained:
            return
        path = find_weights(
            WEIGHTS_FILE, URL, "a pretrained ResNetPyramid needs torchvision's weights", self.weights
        )
        content = "torchvision's weights of ResNet-18"
        state = read_weights(path, content, URL)
        try:
            parts = {"conv1.": self.convolution, "bn1.": self.norm}
            parts |= {f"layer{number + 1}.": group for number, group in enumerate(self.groups)}
            for prefix, part in parts.items():
                own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
                part.load_state_dict(own)
        except RuntimeError as error:
            raise not_the_weights(path, content, URL, error) from error

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h2 w2"]:
        """Compute the features of images in [0, 1]."""
        first = F.relu(self.norm(self.convolution(images)))
        size = first.shape[-2:]
        found, x = [first], F.max_pool2d(first, 3, stride=2, padding=1)
        for group in self.groups:
            x = group(x)
            found.append(F.interpolate(x, size=size, mode="bilinear", align_corners=True))
        return torch.cat(found, dim=1)
