"""A Gaussian mixture, and its posterior given noise-free linear observations, both exact."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Posterior(NamedTuple):
    """What observations o = A s tell about s, component by component.

    `weights` are the components' posterior probabilities. Given its component, s has the mean `means`; and for s'
    drawn from the component's prior, s' + `gains` (o − A s') is a draw.
    """

    weights: Float[Tensor, "b k"]
    means: Float[Tensor, "b k d"]
    gains: Float[Tensor, "b k d c"]


class GaussianMixture(NamedTuple):
    """Components N(mean, F Fᵀ), with F in `factors`, of probabilities `weights`."""

    weights: Float[Tensor, " k"]
    means: Float[Tensor, "k d"]
    factors: Float[Tensor, "k d d"]

    def sample(self, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "n d"]:
        """Independent draws."""
        return self._of(torch.multinomial(self.weights, count, replacement=True, generator=generator), generator)

    def posterior(self, rows: Float[Tensor, "b c d"], values: Float[Tensor, "b c"]) -> Posterior:
        """The distribution of s given o = A s, with A in `rows` (linearly independent) and o in `values`."""
        rows, values = rows[:, None], values[:, None, :, None]
        means, factors = self.means[:, :, None], rows @ self.factors
        inverse = torch.linalg.inv(factors @ factors.mT)
        surprise = values - rows @ means
        evidence = -0.5 * (surprise.mT @ inverse @ surprise)[..., 0, 0] + 0.5 * torch.logdet(inverse)
        gains = self.factors @ factors.mT @ inverse
        return Posterior((self.weights.log() + evidence).softmax(1), (means + gains @ surprise)[..., 0], gains)

    def sample_posterior(
        self,
        rows: Float[Tensor, "b c d"],
        values: Float[Tensor, "b c"],
        draws: int,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Independent draws of s given o = A s (of a Gaussian: by Matheron's rule)."""
        posterior = self.posterior(rows, values)
        component = torch.multinomial(posterior.weights, draws, replacement=True, generator=generator)
        prior = self._of(component.flatten(), generator).unflatten(0, component.shape)
        gain = posterior.gains.gather(1, component[:, :, None, None].expand(-1, -1, *posterior.gains.shape[2:]))
        return prior + (gain @ (values[:, None] - prior @ rows.mT)[..., None])[..., 0]

    def posterior_mean(self, rows: Float[Tensor, "b c d"], values: Float[Tensor, "b c"]) -> Float[Tensor, "b d"]:
        """The mean of s given o = A s."""
        posterior = self.posterior(rows, values)
        return (posterior.weights[..., None] * posterior.means).sum(1)

    def _of(self, component: Int[Tensor, " n"], generator: torch.Generator | None) -> Float[Tensor, "n d"]:
        """One draw from each of the given components."""
        noise = torch.randn(*self.means[component].shape, 1, generator=generator).to(self.means)
        return self.means[component] + (self.factors[component] @ noise)[..., 0]


def three_clusters() -> GaussianMixture:
    """Three elongated clusters in three dimensions, unequal and without symmetry; about 0.8 in every direction."""
    means = torch.tensor([[1.0, 0.6, 0.3], [-0.9, 0.8, -0.5], [0.0, -1.0, 0.4]])
    lengths = torch.tensor([[0.5, 0.3, 0.25], [0.25, 0.4, 0.5], [0.4, 0.3, 0.35]])
    x, y, z = torch.tensor([[0.9, 0.2, -0.4], [-0.3, 1.1, 0.6], [0.5, -0.8, 1.3]]).unbind(1)
    zero = torch.zeros_like(x)
    turns = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)
    return GaussianMixture(torch.tensor([0.5, 0.3, 0.2]), means, torch.matrix_exp(turns) * lengths[:, None])
