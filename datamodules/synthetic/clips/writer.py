"""Write synthetic clips in the layout of Vimeo-90K, with their true motion beside them."""

import math
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from datamodules.synthetic.clips.rendering import render
from datamodules.synthetic.clips.scene import (
    Movement,
    SceneLimits,
    Shape,
    Texture,
    draw_background,
    draw_movement,
    draw_shape,
    pose,
)
from datamodules.synthetic.production import produce, write_truth
from datamodules.vimeo90k.layout import FORMS, FormName
from datamodules.vimeo90k.truth import truth_path
from dfm_lightning.errors import UserError
from dfm_lightning.files import remove_leftovers, whole_file, whole_folder, write_text
from dfm_lightning.randomness import generator_for

# Clips in a folder: the layout numbers folders and the clips in them.
_CLIPS_PER_FOLDER = 1000
_ABOUT = (
    "Clips of shapes that move evenly from the first frame to the last, in a direction drawn from `distribution` "
    "(degrees, 0 to the right, 90 down), independently of everything that the first frame shows. Each shape's "
    "way is in pixels, its turn in degrees (from x to y), its growth a factor. truth/<clip>.npz has `shape`, "
    "the number of the shape at each pixel of each frame (0: background), and `pose`, the affine maps from a "
    "shape's coordinates to the pixels of each frame (centres at whole numbers)."
)


class Settings(NamedTuple):
    """The settings that the files depend on. `travel` is a share of the shorter side, `turn` is in degrees."""

    form: FormName
    train_clips: int
    test_clips: int
    height: int
    width: int
    shapes: int
    directions: list[float]
    probabilities: list[float]
    travel: tuple[float, float]
    turn: float
    growth: float
    seed: int

    @property
    def clips(self) -> int:
        return self.train_clips + self.test_clips

    def limits(self) -> SceneLimits:
        """Return the same in pixels and radians."""
        side = min(self.height, self.width)
        travel = (self.travel[0] * side, self.travel[1] * side)
        return SceneLimits(self.height, self.width, self.shapes, travel, math.radians(self.turn), self.growth)


class DrawnClip(NamedTuple):
    """A clip before it is rendered."""

    background: Texture
    shapes: list[Shape]
    movements: list[Movement]


def write_synthetic_clips(
    root: Path,
    form: FormName = "septuplet",
    train_clips: int = 2000,
    test_clips: int = 50,
    height: int = 64,
    width: int = 64,
    shapes: int = 1,
    directions: tuple[float, ...] = (0.0, 180.0),
    probabilities: tuple[float, ...] | None = None,
    travel: tuple[float, float] = (0.08, 0.11),
    turn: float = 15.0,
    growth: float = 1.1,
    seed: int = 0,
    workers: int = 1,
) -> None:
    """Write a small data set in the layout of Vimeo-90K. Run again, it writes only what is missing.

    In each clip textured shapes move, turn and grow (or shrink) evenly in front of a textured background that
    stands still. The direction is drawn from a known distribution, independently of the first frame. truth.json
    states the distribution and the draws; truth/ has the true motion between all frames.

    Args:
        root: folder to write to.
        form: septuplets or triplets.
        train_clips: number of clips for training.
        test_clips: number of clips for test.
        height: height of the frames in pixels.
        width: width of the frames in pixels.
        shapes: number of shapes; each moves independently.
        directions: directions that a shape may move in, in degrees: 0 is to the right, 90 down.
        probabilities: probability of each direction; equal if null.
        travel: least and greatest way from the first frame to the last, as a share of the frames' shorter side.
        turn: greatest angle that a shape turns by, either way, in degrees.
        growth: greatest factor that a shape grows or shrinks by; 1 for none.
        seed: the files are a function of it and of the settings above.
        workers: number of processes that render.
    """
    equally = (1 / max(1, len(directions)),) * len(directions)
    settings = Settings(
        form, train_clips, test_clips, height, width, shapes,
        list(directions), list(probabilities or equally), travel, turn, growth, seed,
    )  # fmt: skip
    _check(settings)
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    write_truth(root, _truth(settings))
    remove_leftovers(root)
    sequences = root / "sequences"
    missing = [number for number in range(settings.clips) if not (sequences / clip_name(number)).exists()]
    produce(partial(_write_clip, root, settings), missing, workers, f"Writing clips to {root}")
    names = [clip_name(number) for number in range(settings.clips)]
    prefix = FORMS[form]
    write_text(root / prefix.list_file("train"), _lines(names[:train_clips]))
    write_text(root / prefix.list_file("test"), _lines(names[train_clips:]))


def clip_name(number: int) -> str:
    """Return the name of a clip, such as 00001/0001."""
    folder, clip = divmod(number, _CLIPS_PER_FOLDER)
    return f"{folder + 1:05d}/{clip + 1:04d}"


def draw_clip(settings: Settings, number: int) -> DrawnClip:
    """Draw the clip of a number, as a function of the seed, the number and the settings.

    The first frame and the movement come from different generators.
    """
    visible, hidden = (_random(settings, number, part) for part in ("visible", "motion"))
    limits = settings.limits()
    shapes = [draw_shape(visible, limits) for _ in range(settings.shapes)]
    law = (settings.directions, settings.probabilities)
    movements = [draw_movement(hidden, limits, *law) for _ in range(settings.shapes)]
    return DrawnClip(draw_background(visible, limits), shapes, movements)


def _check(settings: Settings) -> None:
    if min(settings.train_clips, settings.test_clips) < 0 or settings.clips < 1:
        raise UserError("train_clips and test_clips must be at least 0 and one of them above")
    if not 1 <= settings.shapes <= 255 or min(settings.height, settings.width) < 8:
        raise UserError("at least 1 shape and frames of 8×8 pixels are needed (and at most 255 shapes)")
    if not settings.directions or len(settings.probabilities) != len(settings.directions):
        raise UserError(
            f"directions and probabilities must be equally many, not {len(settings.directions)} and "
            f"{len(settings.probabilities)}"
        )
    if min(settings.probabilities) < 0 or abs(sum(settings.probabilities) - 1) > 1e-6:
        raise UserError(f"probabilities must be from 0 on and sum to 1, not {settings.probabilities}")
    if not 0 <= settings.travel[0] <= settings.travel[1]:
        raise UserError(f"travel must be a least and a greatest way from 0 on, not {list(settings.travel)}")
    if settings.turn < 0 or settings.growth < 1:
        raise UserError("turn must be at least 0 degrees and growth at least 1")
    settings.limits().check()


def _random(settings: Settings, number: int, purpose: str) -> np.random.Generator:
    generator = generator_for("synthetic clips", number, purpose, seed=settings.seed)
    return np.random.default_rng(generator.initial_seed())


def _write_clip(root: Path, settings: Settings, number: int) -> None:
    clip, frames = draw_clip(settings, number), FORMS[settings.form].frames
    poses = np.stack([
        np.stack([pose(*each, frame / (frames - 1)) for each in zip(clip.shapes, clip.movements, strict=True)])
        for frame in range(frames)
    ])  # fmt: skip
    views = [render(clip.background, clip.shapes, each, settings.height, settings.width) for each in poses]
    with whole_file(truth_path(root, clip_name(number))) as aside:
        np.savez_compressed(aside, shape=np.stack([numbers for _, numbers in views]), pose=poses)
    with whole_folder(root / "sequences" / clip_name(number)) as folder:
        for frame, (image, _) in enumerate(views):
            Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(folder / f"im{frame + 1}.png")


def _lines(names: list[str]) -> str:
    return "".join(name + "\n" for name in names)


def _truth(settings: Settings) -> dict[str, Any]:
    clips = {}
    for number in range(settings.clips):
        drawn = draw_clip(settings, number).movements
        clips[clip_name(number)] = {
            "split": "train" if number < settings.train_clips else "test",
            "shapes": [
                {
                    "direction": movement.direction,
                    "way": movement.way.tolist(),
                    "turn": float(np.rad2deg(movement.turn)),
                    "growth": movement.growth,
                }
                for movement in drawn
            ],
        }
    law = {"directions": settings.directions, "probabilities": settings.probabilities}
    return {"about": _ABOUT, "settings": settings._asdict(), "distribution": law, "clips": clips}
