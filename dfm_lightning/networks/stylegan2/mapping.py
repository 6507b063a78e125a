"""The mapping network of StyleGAN2: from latent noise z (and a label) to the code w."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfm_lightning.networks.stylegan2.architecture import Architecture
from dfm_lightning.networks.stylegan2.layers import (
    ACTIVATION_GAIN,
    EqualizedLinear,
    leaky_relu,
    normalize_second_moment,
)


class MappingNetwork(nn.Module):
    """A network from z and label to w; holds the mean code that truncation pulls towards."""

    mean_code: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.label_embedding = (
            EqualizedLinear(architecture.labels, architecture.label_features) if architecture.labels > 0 else None
        )
        widths = [architecture.mapping_input, *architecture.mapping_features]
        self.layers = nn.ModuleList(
            EqualizedLinear(wide, out, lr_multiplier=architecture.mapping_lr_multiplier)
            for wide, out in pairwise(widths)
        )
        self.register_buffer("mean_code", torch.zeros(architecture.w_dim))

    def forward(self, z: Float[Tensor, "b z"], label: Float[Tensor, "b l"]) -> Float[Tensor, "b w"]:
        """Compute the code of each row of z. `label` is one-hot, or any vector; [b 0] for a network without
        labels.
        """
        x = normalize_second_moment(z) if z.shape[1] > 0 else z
        if self.label_embedding is not None:
            x = torch.cat([x, normalize_second_moment(self.label_embedding(label))], dim=1)
        for layer in self.layers:
            x = leaky_relu(layer(x)) * ACTIVATION_GAIN
        return x
