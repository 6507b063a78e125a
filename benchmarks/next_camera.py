"""Which camera to look through next, on synthetic scenes: does it pay to ask the samples?

    dfm data make-co3d demo/cameras --train_scenes 1 --val_scenes 1 --test_scenes 12 --frames 16 --height 64 \\
        --width 64 --seed 4
    python benchmarks/next_camera.py co3d_demo --root demo/cameras

A scene is seen from its first camera. Samples of it are drawn. The next camera is the one they disagree about most
(`sampling.ranked`), one at random, or the one farthest from all cameras so far. Its true image joins the context,
and new samples are drawn. All ways of choosing share the first samples and the noise of later ones. Prints the
error of the samples' mean over all cameras, and how much less the chosen cameras leave, scene by scene, with 95%
intervals.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from sampler_errors import data_of
from torch import Tensor

import dfm_lightning
from datamodules.posed.datamodule import PosedImagesDataModule
from datamodules.posed.views import Roles, read_batch
from dfm_lightning.checkpoints.shipped import find_checkpoint
from dfm_lightning.checkpoints.stored_config import stored_config
from dfm_lightning.sampling import evaluating, ranked
from dfm_lightning.tasks import InverseGraphics
from dfm_lightning.types import Views, concatenate, map_tensors, repeat_batch

# (scene, cameras seen so far, what the samples show through all cameras [n m c h w]) -> the next camera
Choice = Callable[[int, list[int], Tensor, Tensor], int]


def scenes_of(model: str, root: str, count: int) -> list[Views]:
    """All cameras of the first test scenes, as seen from the first."""
    data = data_of(stored_config(find_checkpoint(model)), root)
    if not isinstance(data, PosedImagesDataModule):
        raise SystemExit(f"{model} is not a model of posed images")
    data.prepare_data()
    reader = data.reader("test")
    found = []
    for key in reader.keys()[:count]:
        scene = reader.scene(key)
        positions = scene.usable_positions()
        roles = Roles(positions[:1], positions[1], positions[2:])
        batch = map_tensors(
            lambda tensor: tensor[None], read_batch(scene, roles, data.image_size)._replace(key=())
        )
        found.append(concatenate([batch.context, batch.target, batch.novel], dim=1))
    return found


def views_at(views: Views, places: list[int]) -> Views:
    """Some of a scene's views."""
    return Views(views.observation[:, places], map_tensors(lambda tensor: tensor[:, places], views.params))


def farthest(seen: list[int], positions: Tensor) -> int:
    """The camera [m 3] whose nearest one among those seen is farthest away."""
    return int(torch.cdist(positions, positions[seen]).min(dim=1).values.argmax())


def actively(scene: int, seen: list[int], images: Tensor, positions: Tensor) -> int:
    """The camera that samples disagree about most."""
    return next(int(place) for place in ranked(images) if int(place) not in seen)


def at_random(scene: int, seen: list[int], images: Tensor, positions: Tensor) -> int:
    """Any camera that has not been used."""
    generator = torch.Generator().manual_seed(7919 * scene + len(seen))
    left = [place for place in range(len(positions)) if place not in seen]
    return left[int(torch.randint(len(left), (), generator=generator))]


def evenly(scene: int, seen: list[int], images: Tensor, positions: Tensor) -> int:
    """The camera farthest from those so far."""
    return farthest(seen, positions)


CHOICES: dict[str, Choice] = {"chosen": actively, "random": at_random, "even": evenly}


def images_of_samples(model: InverseGraphics, scene: int, views: Views, seen: list[int], samples: int) -> Tensor:
    """Render what samples given some views show through all cameras [n m 3 h w].

    The sampled view is the one farthest from those seen, whoever chose them.
    """
    context = views_at(views, seen)
    target = farthest(seen, views.params.camera_to_world[0, :, :3, 3])
    params = repeat_batch(views_at(views, [target]).params, samples)
    names = [("camera", scene, len(seen), draw) for draw in range(samples)]
    drawn = model.sample(repeat_batch(context, samples), params, names, model.target_size(context))
    return model.observe(drawn.signal, repeat_batch(views.params, samples))


def error(images: Tensor, views: Views) -> float:
    """Root mean square error of the samples' mean over all cameras (images in [-1, 1])."""
    return (images.mean(dim=0) - views.observation[0]).square().mean().sqrt().item()


def compared(
    model: InverseGraphics, scenes: list[Views], number: int, samples: int
) -> dict[str, list[list[float]]]:
    """The errors after each observation, of all ways of choosing."""
    found: dict[str, list[list[float]]] = {name: [] for name in CHOICES}
    for scene, views in enumerate(scenes):
        positions = views.params.camera_to_world[0, :, :3, 3]
        first = images_of_samples(model, scene, views, [0], samples)
        for name, choose in CHOICES.items():
            seen, images, errors = [0], first, [error(first, views)]
            while len(seen) < number:
                seen.append(choose(scene, seen, images, positions))
                images = images_of_samples(model, scene, views, seen, samples)
                errors.append(error(images, views))
            found[name].append(errors)
            print(
                f"# scene {scene}, {name}: cameras {seen}, errors {[round(value, 4) for value in errors]}",
                flush=True,
            )
    return found


def main() -> None:
    """Compare, and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", help="a shipped model or a checkpoint")
    arguments.add_argument("--root", required=True)
    arguments.add_argument("--scenes", type=int, default=12, help="two or more")
    arguments.add_argument("--number", type=int, default=3, help="of observations")
    arguments.add_argument("--samples", type=int, default=6)
    given = arguments.parse_args()
    model = dfm_lightning.load(given.model)
    with evaluating(model), torch.no_grad():
        scenes = scenes_of(given.model, given.root, given.scenes)
        found = compared(model, scenes, given.number, given.samples)
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples/closed_form"))
    from next_observation import print_table

    print_table(found, given.number)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
