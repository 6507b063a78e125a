"""Draw exact and sampled signals of two scenes, as the target sees them and from the side.

python examples/closed_form/picture.py docs/images/closed_form.png
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from comparison import draw
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor
from training import ITERATIONS, train

from dfm_lightning.module import DiffusionWithForwardModel

SCENES, DRAWS, LIMIT = 2, 400, 2.2


def show(panel: Axes, points: Float[Tensor, "n 2"], title: str) -> None:
    """A scatter plot of points."""
    panel.scatter(*points.T.numpy(), s=3, alpha=0.5, linewidths=0)
    panel.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), xticks=[], yticks=[], aspect="equal")
    panel.set_title(title, fontsize=8)


def draw_picture(models: dict[str, DiffusionWithForwardModel], path: Path, seed: int) -> None:
    """A column for the exact posterior and for each model, two rows for each scene."""
    drawn = {name: draw(model, seed, SCENES, DRAWS) for name, model in models.items()}
    first = next(iter(drawn.values()))
    columns = {"exact posterior": first.exact, **{name: each.sampled for name, each in drawn.items()}}
    figure, panels = plt.subplots(2 * SCENES, len(columns), figsize=(2 * len(columns), 4.4 * SCENES))
    for scene in range(SCENES):
        context, (first_axis, second_axis) = (first.scenes[role].params[scene, 0] for role in (0, 1))
        views = {
            "seen by the target": torch.stack([first_axis, second_axis]),
            "context's axis across": torch.stack([context[0], second_axis]),
        }
        for row, (view, axes) in enumerate(views.items()):
            for column, (name, signals) in enumerate(columns.items()):
                title = f"{name}\n{view}" if scene == 0 else view
                show(panels[2 * scene + row, column], signals[scene] @ axes.T, title)
    figure.tight_layout()
    figure.savefig(path, dpi=75)


def main(arguments: list[str] | None = None) -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="where to write the picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    options = parser.parse_args(arguments)
    weights = {"trained": 1.0, "without novel loss": 0.0}
    models = {
        name: train(options.seed, novel_weight=weight, iterations=options.iterations)
        for name, weight in weights.items()
    }
    draw_picture(models, options.path, options.seed)


if __name__ == "__main__":
    main()
