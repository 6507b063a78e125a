"""A pixelNeRF field whose points take their colours from the pixels of its views."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.denoisers.pixelnerf_field import PixelNeRFField
from dfm_lightning.geometry.rays import in_image
from dfm_lightning.networks.feature_lookup import lookup_features
from dfm_lightning.networks.point_decoder import UNSEEN
from dfm_lightning.signals import FieldStage, FieldValues

# What all choices but the target's are lowered by if it comes first: weights of about 3e-4.
_OTHERS = -8.0


class BlendedField(NamedTuple):
    """A field of views and their images: a point's colour is a convex combination of what they show there.

    One colour of the point's own takes part as well (IBRNet, Wang et al. 2021, has none). `colours` are in [0, 1];
    those of a noisy view, which comes last, are a linear estimate of its clean image. If it `comes_first`,
    networks without training choose it wherever it sees a point.
    """

    features: PixelNeRFField
    colours: Float[Tensor, "b v h w 3"]
    comes_first: bool = False

    @property
    def floats_per_point(self) -> int:
        """Return the numbers that a query holds for each point."""
        return self.features.floats_per_point

    def query(self, points: Float[Tensor, "b n 3"], stage: FieldStage) -> FieldValues:
        """Compute values at points of the scene: density and features by the MLP, colours by its choice."""
        seen = self.features.seen(points, stage, slice(None))
        mlp = seen.views.mlp
        each = mlp.per_view(seen.local, seen.features, seen.views.modulation)
        raw = mlp.joined(mlp.merge(each), seen.views.modulation[:, -1]).to(points.dtype)
        shown = (seen.local[..., 2] > 0) & in_image(seen.positions)
        logits = mlp.source_logits(each).to(points.dtype)
        own = raw[..., -1]
        if self.comes_first:
            logits = torch.cat([logits[:, :-1] + _OTHERS, logits[:, -1:]], dim=1)
            own = own + _OTHERS
        logits = logits.masked_fill(~shown, UNSEEN)
        choice = torch.cat([logits, own[:, None]], dim=1).softmax(dim=1)
        found = lookup_features(self.colours, seen.positions).to(points.dtype)
        colour = torch.einsum("bvn,bvnc->bnc", choice[:, :-1], found)
        colour = colour + choice[:, -1, :, None] * raw[..., :3].sigmoid()
        return FieldValues(colour, raw[..., 3].relu(), raw[..., 4:-1])
