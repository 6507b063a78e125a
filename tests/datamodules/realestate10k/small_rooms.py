"""The small synthetic rooms of these tests, and the other forms of the data set, written independently."""

import json
from pathlib import Path

import numpy as np
import scipy.io
import torch
from PIL import Image

from datamodules.synthetic.rooms import write_synthetic_rooms

TRAIN, TEST, FRAMES, HEIGHT, WIDTH = 4, 2, 14, 36, 64


def write_small_rooms(root: Path, **options: object) -> None:
    write_synthetic_rooms(root, TRAIN, TEST, FRAMES, HEIGHT, **options)


def table(camera_file: Path) -> np.ndarray:
    """The lines of a camera file as numbers [N, 19]."""
    return np.loadtxt(camera_file, skiprows=1, ndmin=2)


def write_chunks(official: Path, root: Path, per_chunk: int = 3) -> None:
    """The scenes of an official root as pixelSplat's chunks."""
    for split in ("train", "test"):
        (root / split).mkdir(parents=True)
        files = sorted((official / split).glob("*.txt"))
        index = {}
        for number in range(0, len(files), per_chunk):
            name = f"{number // per_chunk:06d}.torch"
            chunk = []
            for file in files[number : number + per_chunk]:
                lines = table(file)
                times = [int(time) for time in lines[:, 0]]
                pictures = [(file.with_suffix("") / f"{time}.jpg").read_bytes() for time in times]
                chunk.append(
                    {
                        "url": file.read_text().splitlines()[0],
                        "key": file.stem,
                        "timestamps": torch.tensor(times, dtype=torch.int64),
                        "cameras": torch.tensor(lines[:, 1:], dtype=torch.float32),
                        "images": [torch.tensor(list(picture), dtype=torch.uint8) for picture in pictures],
                    }
                )
                index[file.stem] = name
            torch.save(chunk, root / split / name)
        (root / split / "index.json").write_text(json.dumps(index))


def write_mat(official: Path, root: Path) -> None:
    """The scenes of an official root in the form that the original code reads."""
    for split in ("train", "test"):
        poses = {}
        for file in sorted((official / split).glob("*.txt")):
            poses[file.stem] = table(file)
            folder = root / "realestate" / split / file.stem
            folder.mkdir(parents=True)
            pictures = {path.name: np.asarray(Image.open(path)) for path in file.with_suffix("").iterdir()}
            np.savez(folder / "data.npz", **pictures)
        scipy.io.savemat(root / f"{split}.mat", poses)
