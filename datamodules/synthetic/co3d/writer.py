"""Write synthetic scenes in the layout of Co3D (version 2), with a truth file beside them."""

import gzip
import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from datamodules.hidden_looks import HIDDEN_MASKS
from datamodules.synthetic.co3d.camera_path import CameraPath, draw_camera_path
from datamodules.synthetic.co3d.rendering import BACK, Rendering, render
from datamodules.synthetic.co3d.scene import BACK_COLOURS, Scene, draw_scene
from datamodules.synthetic.production import produce, write_truth
from dfm_lightning.errors import UserError
from dfm_lightning.files import remove_leftovers, whole_file, whole_folder, write_json
from dfm_lightning.geometry.cameras import (
    NdcFormat,
    normalised_to_pytorch3d_intrinsics,
    opencv_to_pytorch3d,
    scale_translations,
)
from dfm_lightning.randomness import generator_for

_NDC_FORMATS: tuple[NdcFormat, NdcFormat] = ("ndc_isotropic", "ndc_norm_image_bounds")
# Beyond this distance (in the scene's own units) a depth counts as unknown, like that of far ground in real data.
_FURTHEST_DEPTH = 15.0
_ABOUT = (
    "Scenes whose object has a back of its own colour: what faces away from frame 0 and is invisible there. "
    "The colour of the back is drawn from `distribution`, independently of everything else. "
    "<sequence>/hidden_masks/ marks its pixels in every frame (none in frame 0)."
)


class Settings(NamedTuple):
    """All settings that the files depend on."""

    category: str
    train_scenes: int
    val_scenes: int
    test_scenes: int
    frames: int
    height: int
    width: int
    seed: int
    plain: bool = False

    @property
    def scenes(self) -> int:
        return self.train_scenes + self.val_scenes + self.test_scenes


class Sequence(NamedTuple):
    """One scene before it is rendered. `unit` is the length of the scene's own unit in the files' world."""

    name: str
    scene: Scene
    path: CameraPath
    unit: float
    ndc_format: NdcFormat
    quality: float


def write_synthetic_co3d(
    root: Path,
    category: str = "toy",
    train_scenes: int = 40,
    val_scenes: int = 2,
    test_scenes: int = 6,
    frames: int = 30,
    height: int = 128,
    width: int = 128,
    seed: int = 0,
    workers: int = 1,
    plain: bool = False,
) -> None:
    """Write a small data set in the layout of Co3D. Run again, it writes only what is missing.

    Each scene is a solid object on a patterned ground; a camera goes around it once. The object's back, which
    frame 0 cannot see, has a colour drawn from a known distribution, independently of what is visible: truth.json
    states the distribution and the draws. The subsets fewview_train and fewview_dev have the same training and
    validation sequences; the test sequences are in fewview_dev alone, whose evaluation batches have frame 0 as
    their only known frame.

    Args:
        root: folder to write to.
        category: name of the category's folder.
        train_scenes: number of sequences for training.
        val_scenes: number of sequences for validation.
        test_scenes: number of sequences for test.
        frames: number of frames of a sequence, evenly around the object.
        height: height of the images in pixels.
        width: width of the images in pixels.
        seed: the files are a function of it and of the sizes above.
        workers: number of processes that render.
        plain: leave out patterns and the small solids beside the object, which a small model does not learn in
            hours.
    """
    settings = Settings(category, train_scenes, val_scenes, test_scenes, frames, height, width, seed, plain)
    _check(settings)
    root = Path(root)
    folder = root / category
    folder.mkdir(parents=True, exist_ok=True)
    write_truth(root, _truth(settings))
    remove_leftovers(folder)
    missing = [number for number in range(settings.scenes) if not (folder / _name(settings, number)).exists()]
    write = partial(_write_sequence, folder, settings)
    produce(write, missing, workers, f"Writing {category} to {root}")
    _write_annotations(root, settings)


def draw_sequence(settings: Settings, number: int) -> Sequence:
    """Draw the sequence of a number, as a function of the seed, the number and the sizes."""
    random = _random(settings, number, "visible")
    path = draw_camera_path(random, settings.frames, settings.height, settings.width)
    first_camera = path.camera_to_world[0, :3, 3].numpy()
    scene = draw_scene(
        random, _random(settings, number, "back"), first_camera, path.middle.numpy(), settings.plain
    )
    # Real sequences have units of length of their own, and either format of the intrinsics.
    unit = float(np.exp(random.uniform(-1, 1)))
    quality = float(random.uniform(0.5, 1.5))
    return Sequence(_name(settings, number), scene, path, unit, _NDC_FORMATS[number % 2], quality)


def _check(settings: Settings) -> None:
    if min(settings.train_scenes, settings.val_scenes, settings.test_scenes) < 0 or settings.scenes < 1:
        raise UserError(f"the numbers of scenes must be at least 0 and one above, not {settings}")
    if settings.frames < 4 or min(settings.height, settings.width) < 8:
        raise UserError(f"at least 4 frames of 8×8 pixels are needed, not {settings}")


def _random(settings: Settings, number: int, purpose: str) -> np.random.Generator:
    generator = generator_for("synthetic co3d", settings.category, number, purpose, seed=settings.seed)
    return np.random.default_rng(generator.initial_seed())


def _name(settings: Settings, number: int) -> str:
    return f"{settings.category}_{number:04d}"


# --- images -----------------------------------------------------------------------------------------------


def _write_sequence(folder: Path, settings: Settings, number: int) -> None:
    sequence = draw_sequence(settings, number)
    with whole_folder(folder / sequence.name) as aside:
        for kind in ("images", "masks", "depths", "depth_masks", HIDDEN_MASKS):
            (aside / kind).mkdir()
        for frame, pose in enumerate(sequence.path.camera_to_world):
            view = render(sequence.scene, pose, sequence.path.intrinsics, settings.height, settings.width)
            _write_view(aside, frame, view, sequence.unit)


def _write_view(folder: Path, frame: int, view: Rendering, unit: float) -> None:
    known = view.depth < _FURTHEST_DEPTH
    # Half floats of depths in the scene's own unit; `scale_adjustment` turns them into the world's.
    half = np.where(known, view.depth, 0).astype(np.float16)
    image = Image.fromarray(np.rint(view.colour * 255).astype(np.uint8))
    image.save(folder / _file("images", frame), quality=95, subsampling=0)
    Image.fromarray(np.rint(view.mask * 255).astype(np.uint8)).save(folder / _file("masks", frame))
    Image.fromarray(half.view(np.uint16)).save(folder / _file("depths", frame))
    Image.fromarray(known).save(folder / _file("depth_masks", frame))
    Image.fromarray(view.label == BACK).save(folder / _file(HIDDEN_MASKS, frame))


def _file(kind: str, frame: int) -> str:
    endings = {"images": ".jpg", "depths": ".jpg.geometric.png"}
    return f"{kind}/frame{frame + 1:06d}{endings.get(kind, '.png')}"


# --- annotations ------------------------------------------------------------------------------------------


def _write_annotations(root: Path, settings: Settings) -> None:
    folder = root / settings.category
    sequences = [draw_sequence(settings, number) for number in range(settings.scenes)]
    frames = [entry for sequence in sequences for entry in _frame_annotations(root, settings, sequence)]
    _write_jgz(folder / "frame_annotations.jgz", frames)
    _write_jgz(folder / "sequence_annotations.jgz", [_sequence_annotation(settings, each) for each in sequences])

    names = [sequence.name for sequence in sequences]
    train = names[: settings.train_scenes]
    val = names[settings.train_scenes : settings.train_scenes + settings.val_scenes]
    test = names[settings.train_scenes + settings.val_scenes :]
    lists = {split: _triples(settings, part) for split, part in (("train", train), ("val", val), ("test", test))}
    write_json(folder / "set_lists" / "set_lists_fewview_train.json", {**lists, "test": []})
    write_json(folder / "set_lists" / "set_lists_fewview_dev.json", lists)
    # The target is the view a third of the way round; the first frame is the only known one.
    batches = [[triples[settings.frames // 3], triples[0]] for triples in (_triples(settings, [n]) for n in test)]
    write_json(folder / "eval_batches" / "eval_batches_fewview_dev.json", batches)
    write_json(root / "category_to_subset_name_list.json", {settings.category: ["fewview_train", "fewview_dev"]})


def _triples(settings: Settings, names: list[str]) -> list[list[Any]]:
    return [
        [name, frame, f"{settings.category}/{name}/{_file('images', frame)}"]
        for name in names
        for frame in range(settings.frames)
    ]


def _frame_annotations(root: Path, settings: Settings, sequence: Sequence) -> list[dict[str, Any]]:
    folder = f"{settings.category}/{sequence.name}"
    poses = scale_translations(sequence.path.camera_to_world, sequence.unit)
    rotation, translation = opencv_to_pytorch3d(poses)
    focal, principal = normalised_to_pytorch3d_intrinsics(
        sequence.path.intrinsics, settings.width, settings.height, sequence.ndc_format
    )
    return [
        {
            "sequence_name": sequence.name,
            "frame_number": frame,
            "frame_timestamp": frame / 10,
            "image": {
                "path": f"{folder}/{_file('images', frame)}",
                "size": [settings.height, settings.width],
            },
            "depth": {
                "path": f"{folder}/{_file('depths', frame)}",
                "scale_adjustment": sequence.unit,
                "mask_path": f"{folder}/{_file('depth_masks', frame)}",
            },
            "mask": {
                "path": f"{folder}/{_file('masks', frame)}",
                "mass": _mass(root / folder / _file("masks", frame)),
            },
            "viewpoint": {
                "R": rotation[frame].tolist(),
                "T": translation[frame].tolist(),
                "focal_length": focal.tolist(),
                "principal_point": principal.tolist(),
                "intrinsics_format": sequence.ndc_format,
            },
            "meta": None,
        }
        for frame in range(settings.frames)
    ]


def _mass(mask: Path) -> float:
    """Count the foreground pixels."""
    with Image.open(mask) as image:
        return float(np.asarray(image, dtype=np.float64).sum() / 255)


def _sequence_annotation(settings: Settings, sequence: Sequence) -> dict[str, Any]:
    return {
        "sequence_name": sequence.name,
        "category": settings.category,
        "video": None,
        "point_cloud": None,
        "viewpoint_quality_score": sequence.quality,
    }


def _write_jgz(path: Path, entries: list[dict[str, Any]]) -> None:
    # Without a time stamp, so that the same entries make the same file.
    with whole_file(path) as aside:
        aside.write_bytes(gzip.compress(json.dumps(entries).encode(), mtime=0))


def _truth(settings: Settings) -> dict[str, Any]:
    sequences = {}
    for number in range(settings.scenes):
        sequence = draw_sequence(settings, number)
        sequences[sequence.name] = {"category": settings.category, "back_colour": sequence.scene.back_colour}
    return {
        "about": _ABOUT,
        # (Roots from before there were plain scenes do not say that theirs are not.)
        "settings": {name: value for name, value in settings._asdict().items() if name != "plain" or value},
        "attribute": "back_colour",
        "hidden_from_frame": 0,
        "distribution": {name: colour.probability for name, colour in BACK_COLOURS.items()},
        "reflectance": {name: list(colour.rgb) for name, colour in BACK_COLOURS.items()},
        "sequences": sequences,
    }
