"""Small captures to break: eight cameras on an arc, with pictures of one colour."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.captures import open_capture
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.cameras import look_at

FRAMES, DISTANCE = 8, 4.0
NAN, INF = float("nan"), float("inf")


def poses() -> np.ndarray:
    """Camera-to-world poses (OpenCV axes) on an arc, all at the same distance from the origin that they see."""
    angles = torch.linspace(-0.4, 0.4, FRAMES).double()
    position = DISTANCE * torch.stack([angles.sin(), 0 * angles, -angles.cos()], dim=1)
    return look_at(position, torch.zeros(3).double(), torch.tensor([0.0, -1.0, 0.0]).double()).numpy()


def write_pictures(root: Path, names: list[str] | None = None) -> None:
    (root / "images").mkdir(parents=True)
    for name in names or [f"{number:03d}.png" for number in range(FRAMES)]:
        Image.new("RGB", (64, 48), (90, 120, 150)).save(root / "images" / name)


def transforms(names: list[str] | None = None) -> dict[str, Any]:
    names = names or [f"{number:03d}.png" for number in range(FRAMES)]
    flipped = poses() * np.array([1, -1, -1, 1])
    frames = [
        {"file_path": f"images/{n}", "transform_matrix": p.tolist()} for n, p in zip(names, flipped, strict=True)
    ]
    return {"w": 64, "h": 48, "fl_x": 60.0, "fl_y": 60.0, "cx": 32.0, "cy": 24.0, "frames": frames}


def save(root: Path, content: Any) -> Path:
    (root / "transforms.json").write_text(json.dumps(content))
    return root


def one_line(message: str) -> bool:
    return "\n" not in message and 0 < len(message) < 600


def refusal(root: Path) -> str:
    """The one line with which a capture is refused."""
    with pytest.raises(UserError) as error:
        open_capture(root, 3.0)
    assert one_line(str(error.value))
    return str(error.value)
