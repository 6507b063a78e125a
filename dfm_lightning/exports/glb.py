"""Coloured meshes as binary glTF 2.0."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dfm_lightning.files import whole_file

# Names of numbers and targets in glTF's specification (sections 3.6 and 5.1).
_FLOAT, _UNSIGNED_INT, _UNSIGNED_SHORT = 5126, 5125, 5123
_VERTICES, _INDICES = 34962, 34963
_MAGIC, _JSON, _BINARY = 0x46546C67, 0x4E4F534A, 0x004E4942


def write_glb(
    path: Path,
    vertices: Float[np.ndarray, "n 3"],
    faces: Int[np.ndarray, "f 3"],
    colours: Float[np.ndarray, "n 3"],
) -> None:
    """Write a mesh whose vertices have colours.

    Colours are shown without light (KHR_materials_unlit), since the model's colours include shading. Triangles are
    visible from outside only, so that walls do not hide the inside of a scene.

    Args:
        path: the file.
        vertices: positions, right-handed, y up (glTF's axes).
        faces: three vertices each, counter-clockwise seen from outside.
        colours: sRGB, in [0, 1]; glTF stores vertices' colours linear in light.
    """
    vertices = vertices.astype("<f4")
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    rgba = np.concatenate([linear.clip(0, 1), np.ones((len(linear), 1))], axis=1)
    arrays = [vertices, (rgba * 65535).round().astype("<u2"), faces.astype("<u4").ravel()]
    views: list[dict[str, Any]] = []
    start = 0
    for array, target in zip(arrays, (_VERTICES, _VERTICES, _INDICES), strict=True):
        views.append({"buffer": 0, "byteOffset": start, "byteLength": array.nbytes, "target": target})
        start += array.nbytes  # (multiples of four all)
    ends = {"min": vertices.min(axis=0).tolist(), "max": vertices.max(axis=0).tolist()}
    count = len(vertices)
    accessors = [
        {"bufferView": 0, "componentType": _FLOAT, "count": count, "type": "VEC3", **ends},
        {"bufferView": 1, "componentType": _UNSIGNED_SHORT, "normalized": True, "count": count, "type": "VEC4"},
        {"bufferView": 2, "componentType": _UNSIGNED_INT, "count": faces.size, "type": "SCALAR"},
    ]
    primitive = {"attributes": {"POSITION": 0, "COLOR_0": 1}, "indices": 2, "material": 0}
    content = {
        "asset": {"version": "2.0", "generator": "DFM-Lightning"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "materials": [{"extensions": {"KHR_materials_unlit": {}}}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": start}],
    }
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary = b"".join(array.tobytes() for array in arrays)
    chunks = [struct.pack("<II", len(part), kind) + part for part, kind in ((text, _JSON), (binary, _BINARY))]
    length = 12 + sum(map(len, chunks))
    with whole_file(path) as aside:
        aside.write_bytes(struct.pack("<III", _MAGIC, 2, length) + b"".join(chunks))
