"""The settings that define a StyleGAN2 generator besides its weights."""

import math
from dataclasses import asdict, dataclass
from typing import Any

# Images have three colours, as all users of them expect.
COLOURS = 3
# Far beyond existing generators, and small enough to keep a malicious file from exhausting memory.
MOST_WIDE, MOST_PIXELS, MOST_LAYERS = 2**16, 2**12, 2**6


@dataclass(frozen=True)
class Architecture:
    """The shape of a generator and the few numbers it computes with.

    Args:
        z_dim: length of the latent noise.
        w_dim: length of the code.
        channels: channels at 4×4, 8×8 and so on; their number sets the resolution.
        mapping_features: widths of the mapping network's layers; the last is `w_dim`.
        labels: length of a label; 0 for a generator without labels.
        label_features: length that a label is embedded to.
        mapping_lr_multiplier: gain of the mapping network's parameters.
        image_channels: channels of the image: 3, its colours.
        conv_clamp: activations are clamped to ± this; infinite for none.
        half_precision_from: under autocast, blocks of this resolution and above compute in half precision.
    """

    z_dim: int
    w_dim: int
    channels: tuple[int, ...]
    mapping_features: tuple[int, ...]
    labels: int = 0
    label_features: int = 0
    mapping_lr_multiplier: float = 0.01
    image_channels: int = 3
    conv_clamp: float = math.inf
    half_precision_from: int = 8

    def __post_init__(self) -> None:
        if not self.channels or not self.mapping_features:
            raise ValueError("a generator has at least one block and one mapping layer")
        if self.image_channels != COLOURS:
            raise ValueError(
                f"only images of {COLOURS} channels are supported; this generator's have {self.image_channels}"
            )
        if self.resolution > MOST_PIXELS or len(self.mapping_features) > MOST_LAYERS:
            raise ValueError(f"a generator has at most {MOST_PIXELS} pixels and {MOST_LAYERS} mapping layers")
        inputs = {"mapping_input": self.mapping_input, "w_dim": self.w_dim}
        for widths in (self.channels, self.mapping_features, inputs.values()):
            if not all(isinstance(width, int) and 1 <= width <= MOST_WIDE for width in widths):
                raise ValueError(f"widths are whole numbers from 1 to {MOST_WIDE}, got {[*widths]}")
        for name in ("mapping_lr_multiplier", "conv_clamp"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.mapping_features[-1] != self.w_dim:
            raise ValueError(
                f"the last mapping layer gives {self.mapping_features[-1]} values, but w_dim is {self.w_dim}"
            )

    @property
    def resolution(self) -> int:
        """Return height and width of the image."""
        return 4 * 2 ** (len(self.channels) - 1)

    @property
    def layers(self) -> int:
        """Return the number of codes of an image (num_ws): one for each convolution and the last toRGB."""
        return 2 * len(self.channels)

    @property
    def mapping_input(self) -> int:
        """Return the length of the mapping network's input."""
        return self.z_dim + self.label_features

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, which lacks infinity: a missing clamp is null."""
        clamp = self.conv_clamp if math.isfinite(self.conv_clamp) else None
        return {**asdict(self), "conv_clamp": clamp}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Architecture":
        """Invert `to_dict`, also after JSON, which turns tuples into lists."""
        clamp = math.inf if values["conv_clamp"] is None else values["conv_clamp"]
        plain: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
        return cls(**{**plain, "conv_clamp": clamp})


def channels_by_resolution(resolution: int, channel_base: int, channel_max: int) -> tuple[int, ...]:
    """Return the channels of each block, 4×4 to `resolution`: min(channel_base / resolution, channel_max)."""
    if resolution < 4 or resolution & (resolution - 1):
        raise ValueError(f"resolution must be a power of two from 4 up, got {resolution}")
    sizes = [2**k for k in range(2, resolution.bit_length())]
    return tuple(min(channel_base // size, channel_max) for size in sizes)
