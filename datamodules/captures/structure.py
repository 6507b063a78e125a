"""Find unknown cameras of pictures: structure from motion by pycolmap."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from PIL import Image
from torch import Tensor

from datamodules.captures.colmap import colmap_lens
from datamodules.captures.colmap_files import ColmapCamera, camera_models
from datamodules.captures.lens import FrameError, Lens, load_pycolmap
from dfm_lightning.errors import UserError
from dfm_lightning.geometry.cameras import invert_pose

Order = Literal["any", "sequence"]
# Points to find in a picture; more take longer to match, and hardly place more pictures.
_FEATURES = 4096
_FEWEST = 3
# Near and far are the depths of points at these percentiles, since a few points are always wrong, with some
# margin: pictures show things nearer and farther than their points.
_NEAR_FAR = (0.5, 99.5)
_ROOM = 1.1
# The errors that pycolmap raises, depending on where it notices a problem.
_FAULTS = (ValueError, RuntimeError, IndexError, KeyError, MemoryError, OSError)


class PlacedPicture(NamedTuple):
    """A picture whose camera was found: its name, camera-to-world pose (OpenCV axes) and lens."""

    name: str
    pose: Float64[Tensor, "4 4"]
    lens: Lens


class Structure(NamedTuple):
    """Placed pictures, coloured points, near and far, and the reprojection error.

    Near and far are the depths between which the cameras see the points. The error is the mean distance, in
    pixels, between points and where the pictures show them. Lengths are in an arbitrary unit.
    """

    pictures: list[PlacedPicture]
    points: Float64[np.ndarray, "p 3"]
    colours: UInt8[np.ndarray, "p 3"]
    near: float
    far: float
    error: float


def find_structure(pictures: Path, work: Path, order: Order, seed: int) -> Structure:
    """Find the cameras of pictures.

    Args:
        pictures: folder of the pictures.
        work: folder for intermediate results; features and matches of an interrupted run are reused.
        order: "any": each picture is compared with all others. "sequence": with those that follow it.
        seed: seed of all random choices.

    Raises:
        UserError: fewer than three pictures can be placed.
    """
    names = sorted(path.name for path in pictures.iterdir())
    if len(names) < _FEWEST:
        raise UserError(f"finding cameras needs at least {_FEWEST} pictures, got {len(names)}")
    try:
        models = _map(load_pycolmap(), pictures, work, order, seed)
    except _FAULTS as error:
        raise UserError(f"the cameras could not be found: {' '.join(str(error).split())[:300]}") from None
    best = max(models, key=lambda model: model.num_reg_images(), default=None)
    placed = [] if best is None else _placed(best)
    if len(placed) < _FEWEST:
        raise UserError(
            f"{len(placed)} of {len(names)} pictures could be placed, too few: take pictures that overlap by two "
            "thirds, from different places, of something with texture that does not move"
        )
    return _structure(best, placed)


def _map(pycolmap: Any, pictures: Path, work: Path, order: Order, seed: int) -> list[Any]:
    # Its log has a line for every pair of pictures.
    pycolmap.logging.minloglevel = pycolmap.logging.Level.ERROR.value
    pycolmap.set_random_seed(seed)
    database = work / "database.db"
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.sift.max_num_features = _FEATURES
    # One thread only: with several, the order in which pictures, pairs and sums are processed would depend on the
    # machine.
    extraction.num_threads = 1
    pycolmap.extract_features(
        database,
        pictures,
        camera_mode=pycolmap.CameraMode.SINGLE if _one_size(pictures) else pycolmap.CameraMode.PER_IMAGE,
        extraction_options=extraction,
        device=pycolmap.Device.cpu,
    )
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = seed
    matching = pycolmap.FeatureMatchingOptions()
    matching.num_threads = 1
    match = pycolmap.match_exhaustive if order == "any" else pycolmap.match_sequential
    match(database, matching_options=matching, verification_options=verification, device=pycolmap.Device.cpu)
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = seed
    options.num_threads = options.mapper.num_threads = 1
    options.min_model_size = _FEWEST
    models = work / "models"
    models.mkdir(exist_ok=True)
    return list(pycolmap.incremental_mapping(database, pictures, models, options).values())


def _one_size(pictures: Path) -> bool:
    """Tell whether all pictures have one size; they are then assumed to share a camera."""
    sizes = set()
    for path in pictures.iterdir():
        with Image.open(path) as picture:
            sizes.add(picture.size)
    return len(sizes) == 1


def _placed(model: Any) -> list[PlacedPicture]:
    pictures = []
    for number in model.reg_image_ids():
        image = model.image(number)
        camera = model.camera(image.camera_id)
        known = camera_models()[int(camera.model)]
        numbers = tuple(camera.params.tolist())
        world_to_camera = torch.eye(4, dtype=torch.float64)
        world_to_camera[:3] = torch.from_numpy(image.cam_from_world().matrix())
        try:
            lens = colmap_lens(ColmapCamera(known, float(camera.width), float(camera.height), numbers))
            lens.pinhole()
        except FrameError:
            continue
        pictures.append(PlacedPicture(image.name, invert_pose(world_to_camera), lens))
    return pictures


def _structure(model: Any, placed: list[PlacedPicture]) -> Structure:
    points = model.points3D
    rows = {number: row for row, number in enumerate(points)}
    places = np.array([point.xyz for point in points.values()]).reshape(-1, 3)
    poses = {picture.name: picture.pose.numpy() for picture in placed}
    depths = []
    for number in model.reg_image_ids():
        image = model.image(number)
        if image.name in poses:
            pose = poses[image.name]
            seen = places[[rows[point.point3D_id] for point in image.get_observation_points2D()]]
            depths.append((seen - pose[:3, 3]) @ pose[:3, 2])
    depth = np.concatenate(depths)
    near, far = np.percentile(depth[depth > 0], _NEAR_FAR).tolist()
    colours = np.array([point.color for point in points.values()], dtype=np.uint8).reshape(-1, 3)
    return Structure(placed, places, colours, near / _ROOM, far * _ROOM, model.compute_mean_reprojection_error())
