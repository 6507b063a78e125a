"""The viewer: what it sends to the browser is what the scenes look like."""

import socket
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import known_scene
import numpy as np
import pytest
import torch

from dfm_lightning.baking import render_scene, save_scene
from dfm_lightning.callbacks.scene_writer import transforms
from dfm_lightning.errors import UserError
from dfm_lightning.files import write_json
from dfm_lightning.types import map_tensors, select_views
from dfm_lightning.viewer.samples import find_samples, side_by_side
from dfm_lightning.viewer.server import Viewer, view

SIZE = 24


@pytest.fixture(scope="module")
def predictions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two samples of a scene, the second with red and blue exchanged."""
    folder = tmp_path_factory.mktemp("predictions")
    scene = known_scene.baked(64)
    swapped = scene.field._replace(values=scene.field.values[..., [2, 1, 0, 3]])
    for number, field in enumerate((scene.field, swapped)):
        place = folder / "balls" / f"sample_{number:02}"
        save_scene(scene._replace(field=field), place / "scene.safetensors")
        write_json(place / "transforms.json", transforms(map_tensors(lambda t: t[0], known_scene.ring(3, SIZE))))
    return folder


def test_samples_stand_side_by_side_seen_by_one_camera(predictions: Path) -> None:
    samples = find_samples(predictions)
    assert samples.names == ["sample_00", "sample_01"]
    cameras = select_views(known_scene.ring(3, SIZE), slice(1, 2))
    picture = side_by_side(samples.scenes, cameras.camera_to_world[0, 0], samples.vertical, 2.0, SIZE)
    direct = [(render_scene(scene, cameras)[0].movedim(0, -1).numpy() + 1) * 127.5 for scene in samples.scenes]
    np.testing.assert_allclose(picture, np.concatenate(direct, axis=1), atol=1)
    assert np.abs(direct[0] - direct[1]).max() > 50
    depth = side_by_side(samples.scenes, cameras.camera_to_world[0, 0], samples.vertical, 2.0, SIZE, depth=1.0)
    np.testing.assert_allclose(depth[:, :SIZE], depth[:, SIZE:], atol=1)  # (their shapes are the same)


def test_the_page_is_served_and_pictures_follow_camera_and_sliders(predictions: Path) -> None:
    pytest.importorskip("viser")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    viewer = Viewer(find_samples(predictions), port, "127.0.0.1", SIZE)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{viewer.server.get_port()}", timeout=60) as page:
            assert b"<html" in page.read().lower()
        sent: list[np.ndarray] = []
        camera = SimpleNamespace(wxyz=(1.0, 0.0, 0.0, 0.0), position=(0.0, 0.0, 0.0), fov=0.9, aspect=2.0)
        scene = SimpleNamespace(set_background_image=lambda picture, format: sent.append(picture))
        client = SimpleNamespace(camera=camera, scene=scene)
        viewer.show(client)
        viewer.sample.value = 2
        viewer.show(client)
        camera.wxyz = (0.0, 0.0, 1.0, 0.0)  # half a turn: nothing is there
        viewer.show(client)
    finally:
        viewer.server.stop()
        time.sleep(0.1)
    scenes = find_samples(predictions).scenes
    pose = torch.eye(4)
    np.testing.assert_array_equal(sent[0], side_by_side(scenes, pose, 0.9, 2.0, SIZE))
    np.testing.assert_array_equal(sent[1], side_by_side(scenes[1:], pose, 0.9, 2.0, SIZE))
    assert sent[1].max() > 100
    assert sent[2].max() < 20


def test_folders_without_baked_scenes_or_with_several_are_refused(predictions: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--export scene"):
        view(tmp_path)
    with pytest.raises(UserError, match="nowhere"):
        view(tmp_path / "nowhere")
    scene = find_samples(predictions).scenes[0]
    for name in ("one", "two"):
        save_scene(scene, tmp_path / name / "sample_00" / "scene.safetensors")
    with pytest.raises(UserError, match=r"one.*two"):
        find_samples(tmp_path)
