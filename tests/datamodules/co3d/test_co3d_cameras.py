"""Cameras and depths end to end: epipolar geometry of a real sequence, reprojection in a synthetic one."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.co3d import Co3DDataModule
from datamodules.co3d.annotations import CategoryAnnotations, parse_frame, read_category
from datamodules.co3d.frames import read_depth
from datamodules.co3d.sequences import Sequence, build_sequences
from datamodules.posed.back_from_target import BackFromTarget
from dfm_lightning.geometry.cameras import intrinsics_in_pixels, invert_pose

MATCHES = Path(__file__).parents[2] / "data" / "co3d_apple_matches.json"


# --- a real sequence --------------------------------------------------------------------------------------


def sequence_of(entries: list[dict]) -> Sequence:
    annotations = CategoryAnnotations([parse_frame(entry) for entry in entries], {}, 0)
    (sequence,) = build_sequences(Path("root"), "apple", annotations).values()
    return sequence


def epipolar_errors(sequence: Sequence, matches: list[dict]) -> np.ndarray:
    """Distances in pixels of matched points from the lines on which the cameras say they lie."""
    position = {frame.number: index for index, frame in enumerate(sequence.frames)}
    errors = []
    for match in matches:
        first, second = (position[number] for number in match["frames"])
        points = torch.tensor(match["points"]).double()
        ones = torch.ones(len(points), 1).double()
        height, width = sequence.frames[first].size
        pixels_1, pixels_2 = torch.cat([points[:, :2], ones], 1), torch.cat([points[:, 2:], ones], 1)
        k_1, k_2 = (
            intrinsics_in_pixels(sequence.intrinsics[index].double(), width, height) for index in (first, second)
        )
        poses = sequence.camera_to_world.double()
        motion = invert_pose(poses[second]) @ poses[first]
        # A point's ray from camera 1, as seen in camera 2: two of its points span the epipolar line.
        rays = pixels_1 @ torch.linalg.inv(k_1).T @ motion[:3, :3].T
        line = torch.linalg.cross((motion[:3, 3] @ k_2.T).expand_as(rays), (motion[:3, 3] + rays) @ k_2.T)
        distance = (line * pixels_2).sum(dim=1).abs() / line[:, :2].norm(dim=1)
        errors.append(distance.numpy())
    return np.concatenate(errors)


def test_real_cameras_satisfy_epipolar_geometry() -> None:
    data = json.loads(MATCHES.read_text())
    assert np.median(epipolar_errors(sequence_of(data["frames"]), data["matches"])) < 0.5


@pytest.mark.parametrize(
    "misread",
    [
        lambda viewpoint: viewpoint.update(intrinsics_format="ndc_norm_image_bounds"),
        lambda viewpoint: viewpoint.update(R=np.array(viewpoint["R"]).T.tolist()),
        lambda viewpoint: viewpoint.update(T=(np.array(viewpoint["T"]) * [1, -1, 1]).tolist()),
    ],
    ids=["other intrinsics format", "rotation transposed", "translation's y axis turned"],
)
def test_the_epipolar_check_finds_cameras_misread(misread) -> None:
    data = json.loads(MATCHES.read_text())
    frames = copy.deepcopy(data["frames"])
    for frame in frames:
        misread(frame["viewpoint"])
    assert np.median(epipolar_errors(sequence_of(frames), data["matches"])) > 3


# --- a synthetic sequence, with depth ---------------------------------------------------------------------


def project(points: Tensor, pose: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised image positions and depths of world points."""
    in_camera = (points - pose[:3, 3]) @ pose[:3, :3]
    homogeneous = in_camera @ intrinsics.T
    return homogeneous[:, :2] / homogeneous[:, 2:], in_camera[:, 2]


def unproject(depth: Tensor, pose: Tensor, intrinsics: Tensor) -> Tensor:
    """World points of a z-depth map, by the definition of the conventions."""
    height, width = depth.shape
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([x / width, y / height, torch.ones_like(x)], dim=-1).reshape(-1, 3)
    return (pixels @ torch.linalg.inv(intrinsics).T * depth.reshape(-1, 1)) @ pose[:3, :3].T + pose[:3, 3]


def sample(image: Tensor, positions: Tensor) -> Tensor:
    """The nearest pixels of [c, h, w] at normalised positions; [n, c]."""
    height, width = image.shape[1:]
    x = (positions[:, 0] * width).long().clamp(0, width - 1)
    y = (positions[:, 1] * height).long().clamp(0, height - 1)
    return image[:, y, x].T


@pytest.mark.parametrize("name", ["toy_0000", "toy_0001"], ids=["ndc_isotropic", "ndc_norm_image_bounds"])
def test_depth_of_one_frame_falls_on_the_depth_of_another(synthetic_root: Path, name: str) -> None:
    annotations = read_category(synthetic_root, "toy")
    sequence = build_sequences(synthetic_root, "toy", annotations)[name]
    (depth_a, known_a), (depth_b, known_b) = (
        map(torch.from_numpy, read_depth(synthetic_root, sequence.frames[index])) for index in (0, 1)
    )
    points = unproject(depth_a, sequence.camera_to_world[0], sequence.intrinsics[0])[known_a.flatten()]
    positions, depth = project(points, sequence.camera_to_world[1], sequence.intrinsics[1])
    inside = ((positions > 0) & (positions < 1)).all(dim=1) & (depth > 0)
    seen = sample(torch.stack([depth_b, known_b.float()]), positions)
    use = inside & (seen[:, 1] > 0)
    ratio = depth[use] / seen[use, 0]
    assert use.sum() > 500
    # Most points are seen by both; hidden ones lie behind what is seen, never in front (but for edges).
    assert ((ratio - 1).abs() < 0.03).float().mean() > 0.65
    assert (ratio < 0.95).float().mean() < 0.05


def test_a_batch_shows_the_same_colours_along_its_cameras(synthetic_root: Path, tmp_path: Path) -> None:
    """Context pixels moved by depth and the batch's own (cropped, scaled, relative) cameras into the target."""
    # Images as wide as the stored ones: the crop is whole pixels, and depth can be cropped alike.
    module = Co3DDataModule(
        str(synthetic_root),
        "toy",
        views=BackFromTarget(distance=(1, 1)),
        image_size=40,
        workers=0,
        cache_dir=str(tmp_path),
    )
    batch = next(iter(module.test_dataloader()))
    (scene,) = [scene for scene in module.scenes("test") if scene.sequence.name == batch.key[0]]
    assert scene.sequence.frames[0].number == 0
    depth, known = (torch.from_numpy(part) for part in read_depth(synthetic_root, scene.sequence.frames[0]))
    depth = depth[4:44] * (10.0 / scene.scale.value)
    known = known[4:44].flatten()

    context, novel = batch.context, batch.novel
    points = unproject(depth, context.params.camera_to_world[0, 0], context.params.intrinsics[0, 0])[known]
    positions, in_front = project(points, novel.params.camera_to_world[0, 0], novel.params.intrinsics[0, 0])
    colours = context.observation[0, 0].flatten(1).T[known]
    inside = ((positions > 0) & (positions < 1)).all(dim=1) & (in_front > 0)
    difference = (sample(novel.observation[0, 0], positions) - colours).abs().mean(dim=1)[inside]
    shuffled = (sample(novel.observation[0, 0], positions.flip(0)) - colours).abs().mean(dim=1)[inside]
    assert inside.sum() > 400
    assert difference.median() < 0.06
    assert shuffled.median() > 3 * difference.median()
