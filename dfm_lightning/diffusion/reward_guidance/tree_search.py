"""Tree search with soft backup: trajectories that branch where their ends were rewarded (Jain et al. 2025)."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dfm_lightning.diffusion.noise_process import Number
from dfm_lightning.diffusion.reward_guidance.reward import Reward, boltzmann
from dfm_lightning.diffusion.samplers.ddim import DDIM
from dfm_lightning.diffusion.samplers.evaluation import DrawNoise, Evaluated, Evaluator, Point, SamplingStep
from dfm_lightning.diffusion.spacing import Spacing
from dfm_lightning.ranges import check_above, check_at_least


class Nodes:
    """One level of the trees of a batch: n nodes in each, the same number in all of them.

    `parents` are the places of the nodes' parents at the level above, which differ from tree to tree.
    """

    def __init__(self) -> None:
        self.noisy: list[Tensor] = []
        self.clean: list[Tensor] = []
        self.parents: list[Tensor] = []
        self.values: Float[Tensor, "n b"] | None = None

    def add(self, noisy: Float[Tensor, "b *o"], clean: Float[Tensor, "b *o"], parent: Int[Tensor, " b"]) -> None:
        """Add a node to each tree."""
        self.noisy.append(noisy)
        self.clean.append(clean)
        self.parents.append(parent)

    def children_of(self, parent: Int[Tensor, " b"]) -> Bool[Tensor, "n b"]:
        """Tell which nodes are children of one node of each tree."""
        return torch.stack(self.parents) == parent

    def at(self, point: Point, place: Int[Tensor, " b"]) -> Evaluated:
        """Return one node of each tree."""
        rows = torch.arange(len(place), device=place.device)
        noisy, clean = (torch.stack(each)[place, rows] for each in (self.noisy, self.clean))
        return Evaluated(point, noisy, clean)


class TreeSearch(DDIM):
    """Diffusion tree sampling (Jain et al. 2025): soft values of noisy observations, from the ends they led to.

    Each turn goes down a tree of trajectories, drawing a child with probabilities softmax(value / `softness`),
    adds a new child at some level, and samples on from there to the end, which is rewarded. Values go up the tree:
    that of a node is `softness` · ln of the mean of e^(value / softness) over its children. Values therefore
    describe reachable ends, not a blurred estimate. In the end a path is drawn in the same way. The search needs
    no gradient of the reward.

    Half of the turns branch off after the first evaluation, a quarter after the second, and so on, so that the
    cost is known beforehand (the authors let the number of visits decide): a little less than that of `turns`
    trajectories, and one evaluation of the final choice.

    Args:
        reward: what to look for.
        steps: number of levels.
        turns: number of trajectories, the first one included.
        softness: the smaller, the more the reward counts; above 0.
        eta: how much fresh noise children differ by, above 0; 1 as much as in the ancestral sampler (DDPM).
        temperature: factor on the initial noise; below 1 gives less varied samples.
        threshold_quantile: clamp estimates to this quantile of their absolute values and rescale them to
            [-1, 1] (dynamic thresholding); 0 leaves them alone. Useful with strong guidance.
        spacing: which levels are visited; `Trailing` if none is given.
    """

    def __init__(
        self,
        reward: Reward,
        steps: int = 50,
        turns: int = 16,
        softness: Number = 0.1,
        eta: Number = 1.0,
        temperature: Number = 1.0,
        threshold_quantile: Number = 0.0,
        spacing: Spacing | None = None,
    ) -> None:
        super().__init__(steps, eta, temperature, threshold_quantile, spacing)
        check_above(0, eta=eta, softness=softness)
        check_at_least(1, turns=turns)
        self.reward = reward
        self.turns = turns
        self.softness = softness

    @property
    def evaluations(self) -> int:
        """See `Sampler.evaluations`."""
        return 1 if self.steps == 1 else 1 + sum(self.steps - depth for depth in self._depths())

    def _depths(self) -> list[int]:
        """List the level of the tree at which each turn adds its first node; the first turn adds the root."""
        # (The number of trailing zeros of the turn's number: 0, 1, 0, 2, 0, 1, 0, 3, …)
        zeros = [(turn & -turn).bit_length() - 1 for turn in range(1, self.turns)]
        return [0, *(1 + min(number, self.steps - 2) for number in zeros)]

    def run(
        self, noisy: Float[Tensor, "b *o"], points: list[Point], evaluate: Evaluator, draw_noise: DrawNoise
    ) -> Iterator[SamplingStep]:
        """See `Sampler.run`; a step is yielded for each turn."""
        visited = points[:-1]
        if len(visited) == 1:
            estimate = evaluate(noisy, visited[0])
            yield SamplingStep(estimate.clean, estimate.clean, estimate.source)
            return
        tree = [Nodes() for _ in visited]
        root = torch.zeros(len(noisy), dtype=torch.long, device=noisy.device)
        rewards: list[Tensor] = []
        for depth in self._depths():
            place = self._descend(tree, depth - 1, root, draw_noise)
            for level in range(depth, len(visited)):
                if level > 0:
                    here = tree[level - 1].at(visited[level - 1], place)
                    noisy = self.step([here], visited[level], len(visited) - level + 1, draw_noise)
                estimate = evaluate(noisy, visited[level])
                tree[level].add(noisy, estimate.clean, place)
                place = torch.full_like(root, len(tree[level].noisy) - 1)
            rewards.append(self.reward(estimate.clean, estimate.source).double())
            self._back_up(tree, torch.stack(rewards))
            yield SamplingStep(noisy, estimate.clean, estimate.source)
        place = self._descend(tree, len(tree) - 1, root, draw_noise)
        estimate = evaluate(tree[-1].at(visited[-1], place).noisy, visited[-1])
        yield SamplingStep(estimate.clean, estimate.clean, estimate.source)

    def _descend(
        self, tree: list[Nodes], depth: int, root: Int[Tensor, " b"], draw_noise: DrawNoise
    ) -> Int[Tensor, " b"]:
        """Draw a node at a depth of each tree, from the root down."""
        place = root
        for nodes in tree[1 : depth + 1]:
            assert nodes.values is not None
            place = boltzmann(nodes.values, nodes.children_of(place), self.softness, draw_noise())
        return place

    def _back_up(self, tree: list[Nodes], rewards: Float[Tensor, "n b"]) -> None:
        """Compute all values anew, from the ends up."""
        tree[-1].values = rewards
        for above, below in zip(reversed(tree[:-1]), reversed(tree[1:]), strict=True):
            assert below.values is not None
            logits, parents = below.values / self.softness, torch.stack(below.parents)
            # ln Σ e^x over the children of each node, with the largest x taken out.
            empty = torch.full(
                (len(above.noisy), logits.shape[1]), -math.inf, dtype=logits.dtype, device=logits.device
            )
            most = empty.scatter_reduce(0, parents, logits, "amax")
            total = torch.zeros_like(most).scatter_add(0, parents, (logits - most.gather(0, parents)).exp())
            number = torch.zeros_like(most).scatter_add(0, parents, torch.ones_like(logits))
            above.values = self.softness * (most + total.log() - number.log())
