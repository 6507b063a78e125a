"""Small roots of every kind of posed images, written by formulas: nothing is drawn at random or rendered."""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FRAMES = 10


def picture(scene: int, frame: int, width: int = 14, height: int = 12) -> Image.Image:
    """A picture of its own for each frame."""
    y, x, channel = np.indices((height, width, 3))
    values = 7 * x * (scene + 1) + 13 * y + 31 * frame + 57 * scene + 67 * channel
    return Image.fromarray((40 + values % 200).astype(np.uint8))


def turned(angle: float) -> list[list[float]]:
    """A rotation about the y axis."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return [[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]]


def write_toys(root: Path, train: int = 3) -> Path:
    """Co3D's layout: a category `toy` of training scenes, one of validation and two of test, without depths."""
    names = [f"toy_{number}" for number in range(train + 3)]
    frames, ids = [], {}
    for scene, name in enumerate(names):
        (root / "toy" / name).mkdir(parents=True)
        for frame in range(FRAMES):
            path, mask = (f"toy/{name}/{kind}{frame}.png" for kind in ("image", "mask"))
            picture(scene, frame).save(root / path)
            picture(frame, scene).convert("L").save(root / mask)
            viewpoint = {
                "R": turned(frame * 0.6 + scene),
                "T": [0.01 * frame, 0.02 * (frame % 3), 3.0 + scene],
                "focal_length": [2.0 + 0.1 * scene, 2.1],
                "principal_point": [0.0, 0.01],
                "intrinsics_format": "ndc_isotropic",
            }
            frames.append(
                {
                    "sequence_name": name,
                    "frame_number": frame,
                    "image": {"path": path, "size": [12, 14]},
                    "mask": {"path": mask},
                    "viewpoint": viewpoint,
                }
            )
        ids[name] = [[name, frame, ""] for frame in range(FRAMES)]
    lists = {"train": names[:train], "val": names[train : train + 1], "test": names[train + 1 :]}
    splits = {split: [entry for name in chosen for entry in ids[name]] for split, chosen in lists.items()}
    _write_json(root / "toy" / "set_lists" / "set_lists_fewview_dev.json", splits)
    batches = [[ids[names[-1]][6], ids[names[-1]][2]]]
    _write_json(root / "toy" / "eval_batches" / "eval_batches_fewview_dev.json", batches)
    (root / "toy" / "frame_annotations.jgz").write_bytes(gzip.compress(json.dumps(frames).encode(), mtime=0))
    return root


def write_walks(root: Path, train: int = 5, test: int = 3) -> Path:
    """RealEstate10k's official form."""
    for split, count in (("train", train), ("test", test)):
        for scene in range(count):
            folder = root / split / f"{split}{scene}"
            folder.mkdir(parents=True)
            lines = [_walk_line(scene, frame) for frame in range(FRAMES)]
            folder.with_suffix(".txt").write_text("\n".join(["url", *lines]) + "\n")
            for frame in range(FRAMES):
                picture(scene, frame).save(folder / f"{frame * 1000}.png")
    return root


def _walk_line(scene: int, frame: int) -> str:
    rotation = turned(0.05 * frame * (scene - 1))
    place = [0.1 * frame, 0.01 * frame * frame, -0.2 * frame * (scene + 1)]
    rows = [number for row, moved in zip(rotation, place, strict=True) for number in (*row, moved)]
    numbers = [0.9 + 0.01 * scene, 1.1, 0.5, 0.5, 0.0, 0.0, *rows]
    return " ".join([str(frame * 1000), *(f"{number:.9f}" for number in numbers)])


def write_capture(root: Path) -> Path:
    """A capture with transforms.json: cameras on an arc that look at the origin."""
    root.mkdir(parents=True)
    frames = []
    for frame in range(FRAMES):
        picture(3, frame).save(root / f"{frame}.png")
        angle = 0.2 * frame - 1
        matrix = [
            [*row, moved]
            for row, moved in zip(
                turned(angle), (4 * math.sin(angle), 0.1 * frame, 4 * math.cos(angle)), strict=True
            )
        ]
        frames.append({"file_path": f"{frame}.png", "transform_matrix": [*matrix, [0, 0, 0, 1]]})
    _write_json(root / "transforms.json", {"fl_x": 15.0, "w": 14, "h": 12, "frames": frames})
    return root


def write_photograph(path: Path) -> Path:
    picture(5, 1, 20, 16).save(path)
    return path


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
