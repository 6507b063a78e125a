"""The StyleGAN2-ADA generator: mapping, truncation and synthesis."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfm_lightning.networks.stylegan2.architecture import Architecture
from dfm_lightning.networks.stylegan2.mapping import MappingNetwork
from dfm_lightning.networks.stylegan2.synthesis import NoiseMode, SynthesisNetwork


class Generator(nn.Module):
    """Noise z → codes w → image in about [-1, 1] (Karras et al. 2020, with the defaults of StyleGAN2-ADA).

    Args:
        architecture: its shape, which its file stores beside the weights.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.mapping = MappingNetwork(architecture)
        self.synthesis = SynthesisNetwork(architecture)

    def codes(
        self,
        z: Float[Tensor, "b z"],
        label: Float[Tensor, "b label"] | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
    ) -> Float[Tensor, "b l w_dim"]:
        """Compute the codes of each row of z, one for each layer.

        Args:
            z: standard normal noise.
            label: label of each row; omitted for a generator without labels.
            truncation: ψ: codes are pulled to mean + ψ (w − mean); 1 changes nothing.
            cutoff: the number of layers that are truncated, from the first; all by default.
        """
        labels = self.architecture.labels
        if label is None:
            label = z.new_zeros(len(z), 0)
        if label.shape[1] != labels:
            raise ValueError(f"this generator takes labels of length {labels}, got {label.shape[1]}")
        w = self.mapping(z, label)
        codes = w[:, None].expand(-1, self.architecture.layers, -1)
        truncated = self.mapping.mean_code.lerp(codes, truncation)
        if cutoff is None:
            return truncated
        return torch.cat([truncated[:, :cutoff], codes[:, cutoff:]], dim=1)

    def forward(self, codes: Float[Tensor, "b l w_dim"], noise: NoiseMode = "const") -> Float[Tensor, "b c h w"]:
        """Compute the image of each element's codes; a single code [b 1 w_dim] serves all layers.

        Args:
            codes: one code for each layer, or one for all.
            noise: the noise inputs: "const" is stored with the weights, "random" is drawn from the global
                generator, "none" is zero.
        """
        return self.synthesis(codes.expand(-1, self.architecture.layers, -1), noise)
