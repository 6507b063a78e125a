"""The runs' pictures of a scene: stored by tests, or assembled from the files of samples."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from dfm_lightning.callbacks.output import colour_map
from dfm_lightning.callbacks.output.layers import MOST_SAMPLES, MOST_VIEWS, Layer, Layers, read_layers
from dfm_lightning.callbacks.output.pictures import RGB
from dfm_lightning.callbacks.scene_layers import evenly, spread_layers
from dfm_lightning.files import file_name
from dfm_lightning.report.runs import Run
from dfm_lightning.report.stored_files import damaged, read_json

SHEET = "contact sheet"
# The writers' names of their pictures, and the reports'. All others keep their name.
_NAMES = {
    "observation": "sample",
    "image_full": "sample",
    "image": "sample",
    "warped": "sample",
    "measured": "measurement",
}
# The same for all samples of a scene.
_GIVEN = frozenset({"context", "patch", "measurement"})
_NUMBERED = re.compile(r"(.+)_(\d\d)")


def pictures_of(run: Run, key: str) -> Layers | None:
    """Return a run's pictures of a scene, or None. `UserError` names a damaged file."""
    if run.kind == "predict":
        return _of_samples(run.samples[key]) if key in run.samples else None
    stored = run.path / "pictures" / f"{file_name(key)}.png"
    if key in run.scenes and stored.is_file():
        return read_layers(stored)
    sheet = run.path / "sheets" / f"{file_name(key)}.png"
    if key in run.scenes and sheet.is_file():
        return Layers(["all views"], [Layer(SHEET, _read(sheet)[None])])
    return None


def videos_of(run: Run, key: str) -> list[tuple[int, Path]]:
    """Return the videos of a scene's samples, with the samples' numbers from 1; those of depth come last."""
    folders = run.samples.get(key, [])
    found = [(number, path) for number, folder in enumerate(folders, 1) for path in sorted(folder.glob("*.mp4"))]
    return sorted(found, key=lambda video: video[1].name == "depth.mp4")


def _of_samples(folders: list[Path]) -> Layers | None:
    chosen = folders[:MOST_SAMPLES]
    scenes = all((folder / "frames").is_dir() for folder in chosen)
    return _trajectories(chosen) if scenes else _single_pictures(chosen)


def _trajectories(folders: list[Path]) -> Layers | None:
    """Return some frames of sampled scenes, with depth in one range of colours."""
    number = min(len(list((folder / "frames").glob("*.png"))) for folder in folders)
    if number == 0:
        return None
    shown = evenly(number, MOST_VIEWS)
    frames = [_stack([_read(folder / "frames" / f"{n:04}.png") for n in shown]) for folder in folders]
    contexts = sorted(folders[0].glob("context_*.png"))
    layers = [Layer("context", _stack([_read(path) for path in contexts]))] if contexts else []
    depths = [_depths(folder, shown) for folder in folders]
    known = np.concatenate([depth[depth > 0] for depth in depths if depth is not None] or [np.zeros(1)])
    low, high = np.quantile(known, [0.02, 0.98]) if known.size else (0.0, 1.0)
    for sample, (images, depth) in enumerate(zip(frames, depths, strict=True), 1):
        layers.append(Layer("sample", images, sample))
        if depth is not None:
            layers.append(Layer("depth", colour_map(torch.from_numpy(depth), float(low), float(high)), sample))
    return Layers([f"frame {frame}" for frame in shown], layers + _spread(frames))


def _depths(folder: Path, frames: list[int]) -> Float[np.ndarray, "n h w"] | None:
    about = folder / "depth.json"
    if not about.is_file():
        return None
    scale = read_json(about).get("scale")
    if not isinstance(scale, float | int):
        raise damaged(about, '"scale" is missing')
    paths = [folder / "depth" / f"{frame:04}.png" for frame in frames]
    return np.stack([_open(path, None) for path in paths]).astype(np.float64) * scale


def _single_pictures(folders: list[Path]) -> Layers | None:
    """Return all pictures in the folders of samples, by name; numbered ones are views."""
    given: list[Layer] = []
    sampled: list[Layer] = []
    for sample, folder in enumerate(folders, 1):
        found = _pictures_in(folder)
        for name, images in found.items():
            if name in _GIVEN:
                given += [Layer(name, images)] if sample == 1 else []
            else:
                sampled.append(Layer(name, images, sample))
    if not given and not sampled:
        return None
    samples = [layer.images for layer in sampled if layer.name == "sample"]
    views = max(len(layer.images) for layer in given + sampled)
    return Layers([f"view {view + 1}" for view in range(views)], given + sampled + _spread(samples))


def _pictures_in(folder: Path) -> dict[str, UInt8[np.ndarray, "n h w 3"]]:
    groups: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.png")):
        numbered = _NUMBERED.fullmatch(path.stem)
        groups.setdefault(numbered[1] if numbered else path.stem, []).append(path)
    if "image_full" in groups:  # the same as `image`, larger
        groups.pop("image", None)
    return {
        _NAMES.get(name, name): _stack([_read(path) for path in paths[:MOST_VIEWS]])
        for name, paths in groups.items()
    }


def _spread(samples: Sequence[UInt8[np.ndarray, "n h w 3"]]) -> list[Layer]:
    if len({each.shape for each in samples}) != 1:
        return []
    values = torch.from_numpy(np.stack(list(samples))).permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    return spread_layers(values)


def _stack(images: list[RGB]) -> UInt8[np.ndarray, "n h w 3"]:
    """Stack pictures at the first one's size."""
    return np.stack([image for image in images if image.shape == images[0].shape])


def _read(path: Path) -> RGB:
    return _open(path, "RGB")


def _open(path: Path, mode: str | None) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image if mode is None else image.convert(mode))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, SyntaxError) as error:
        raise damaged(path, error) from error
