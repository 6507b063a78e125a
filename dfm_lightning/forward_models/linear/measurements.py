"""Turn images into problems: the class that lets data modules measure their images by random operators."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfm_lightning.forward_models.linear.laws import OperatorLaw
from dfm_lightning.forward_models.linear.masks import whole_image
from dfm_lightning.forward_models.linear.observation import Projection, Sensing, check_noise, measure
from dfm_lightning.forward_models.linear.operator import LinearOperator
from dfm_lightning.record import Recorded
from dfm_lightning.types import Batch, Views, map_tensors


class LinearMeasurements(Recorded):
    """Measure images: y = A x + σ_y n is a problem's context, its target the image, or another measurement.

    Args:
        law: distribution of the context's operators.
        noise: σ_y, in the units of the measurements (images are in [−1, 1]).
        target_law: distribution of operators for targets that are measurements too, as images A†(A x + σ_y n);
            whole images without noise if None.
    """

    def __init__(self, law: OperatorLaw, noise: float = 0.0, target_law: OperatorLaw | None = None) -> None:
        check_noise(noise)
        self.law = law
        self.noise = noise
        self.target_law = target_law

    # (Not jaxtyping: data modules get this by class path, and the parser never finds two annotations with shapes
    # equal.)
    def problems(self, images: Any, labels: Any, keys: Any, generator: torch.Generator) -> Batch:
        """Measure images [b c h w] of classes [b]; without truth."""
        return self._problems(images, labels, list(keys), generator)

    def _problems(
        self,
        images: Float[Tensor, "b c h w"],
        labels: Int[Tensor, " b"],
        keys: list[str],
        generator: torch.Generator,
    ) -> Batch:
        count, channels, height, width = images.shape
        shape = (channels, height, width)
        operator = self.law.draw(count, shape, generator)
        context = self._views(operator, measure(operator, images, self.noise, generator), labels, self.noise)
        if self.target_law is None:
            target = self._views(whole_image(tuple(images.shape)), images, labels, noise=0.0)
        else:
            other = self.target_law.draw(count, shape, generator)
            seen = other.pseudo_inverse(measure(other, images, self.noise, generator)).to(images.dtype)
            target = self._views(Projection(other), seen, labels, self.noise)
        novel = map_tensors(lambda tensor: tensor[:, :0], target)
        return Batch(context, target, novel, keys, {})

    def _views(
        self,
        operator: LinearOperator,
        observation: Float[Tensor, "b p q r"],
        labels: Int[Tensor, " b"],
        noise: float,
    ) -> Views:
        deviation = torch.full((len(labels), 1), float(noise))
        params = Sensing(map_tensors(lambda tensor: tensor[:, None], operator), deviation, labels[:, None])
        return Views(observation[:, None], params)
