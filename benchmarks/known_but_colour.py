"""What scores are possible for one who knows all of a synthetic test scene but the colour that its context hides.

    python benchmarks/known_but_colour.py

A model's samples at novel views can hardly be nearer to the truth than those of this observer, who has the true
shapes, light and cameras and draws only the hidden colour: from its law, independently of the scene. Prints the
PSNR of the mean of several draws, of the law's own mean, and of the mean of all true images, with the standard
errors of means over scenes. Scenes, frames and sizes are those of the demos' test sets (seed 0).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

from datamodules.posed.two_ends import spread
from datamodules.synthetic.co3d import rendering as of_objects
from datamodules.synthetic.co3d import writer as objects
from datamodules.synthetic.co3d.scene import BACK_COLOURS
from datamodules.synthetic.rooms import writer as rooms
from datamodules.synthetic.rooms.scene import WALLS_BEHIND
from datamodules.synthetic.rooms.shading import render
from dfm_lightning.geometry.images import centre_box, crop_and_resize

SIDE = 32
DRAWS = 200
# PSNR of equal images, which a mean of few draws may be.
HIGHEST = 50.0

# Images of n frames in [0, 1].
Frames = Float[np.ndarray, "n h w 3"]


class KnownScene(NamedTuple):
    """A scene's novel views with each colour that its hidden part could have, and the name of the true one."""

    looks: dict[str, Frames]
    true: str


def images_of(pictures: list[np.ndarray]) -> Frames:
    """Crop pictures in [0, 1] to their central square and resize them, as the data modules do."""
    small = []
    for picture in pictures:
        image = Image.fromarray(np.rint(picture * 255).astype(np.uint8))
        small.append(np.asarray(crop_and_resize(image, centre_box(*image.size), SIDE, SIDE)) / 255)
    return np.stack(small)


def object_scene(number: int) -> KnownScene:
    """Draw a test object; its novel views go round it."""
    settings = objects.Settings("toy", 1200, 16, 50, frames=16, height=64, width=64, seed=0, plain=True)
    sequence = objects.draw_sequence(settings, 1216 + number)
    scene, path = sequence.scene, sequence.path
    frames = spread([frame for frame in range(1, 16) if frame != 16 // 3], 8)
    looks = {}
    for name, colour in BACK_COLOURS.items():
        back = np.array(colour.rgb, np.float32)
        painted = scene._replace(parts=[part._replace(back=back) for part in scene.parts])
        views = [of_objects.render(painted, path.camera_to_world[i], path.intrinsics, 64, 64) for i in frames]
        looks[name] = images_of([view.colour for view in views])
    return KnownScene(looks, scene.back_colour)


def room_scene(number: int) -> KnownScene:
    """Draw a test room; its novel views are those of the index."""
    settings = rooms.Settings(1500, 30, 16, 48, chunked=False, empty=True, camera_paths=(), seed=0)
    looks: dict[str, Frames] = {}
    seed = 0
    while len(looks) < len(WALLS_BEHIND):
        # The same scene with other hidden draws, until every colour has come.
        scene = rooms.plan_scene(settings, 1500 + number, [], np.random.default_rng(seed)).scene
        if scene.walls_behind not in looks:
            poses = scene.camera_to_world[[6, 10, 14]]
            views = [render(scene.house, pose, scene.intrinsics, 48, settings.width) for pose in poses]
            looks[scene.walls_behind] = images_of([view / 255 for view in views])
        seed += 1
    return KnownScene(looks, rooms.plan_scene(settings, 1500 + number, []).scene.walls_behind)


def decibels(found: Frames, true: Frames) -> float:
    """Return the mean PSNR of views in [0, 1], at most `HIGHEST`."""
    errors = np.square(found - true).mean(axis=(1, 2, 3))
    return float(np.minimum(-10 * np.log10(np.maximum(errors, 1e-9)), HIGHEST).mean())


def report(name: str, scenes: list[KnownScene], law: dict[str, float], samples: int) -> None:
    """Print a row of the table."""
    random = np.random.default_rng(0)
    weights = np.array(list(law.values()))
    mean_image = np.mean([scene.looks[scene.true] for scene in scenes], axis=0)
    columns: list[list[float]] = []
    for scene in scenes:
        true = scene.looks[scene.true]
        looks = np.stack([scene.looks[colour] for colour in law])
        shares = random.multinomial(samples, weights, size=DRAWS) / samples
        drawn = [decibels(np.tensordot(share, looks, axes=1), true) for share in shares]
        law_mean = np.tensordot(weights, looks, axes=1)
        columns.append([float(np.mean(drawn)), decibels(law_mean, true), decibels(mean_image, true)])
    scores = np.array(columns)
    errors = scores.std(axis=0, ddof=1) / len(scores) ** 0.5
    cells = [f"{score:.2f} ± {error:.2f}" for score, error in zip(scores.mean(axis=0), errors, strict=True)]
    print(f"| {name}, mean of {samples} | " + " | ".join(cells) + " |")


def main() -> None:
    """Print the table."""
    print("| scenes | mean of draws | mean of the law | mean image of these scenes |")
    print("|---|---|---|---|")
    backs = {name: look.probability for name, look in BACK_COLOURS.items()}
    report("objects", [object_scene(number) for number in range(50)], backs, 8)
    walls = {name: paint.probability for name, paint in WALLS_BEHIND.items()}
    report("rooms", [room_scene(number) for number in range(30)], walls, 4)


if __name__ == "__main__":
    main()
