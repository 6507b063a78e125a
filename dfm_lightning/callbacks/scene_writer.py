"""Write sampled 3D scenes: videos, frames, depth, cameras."""

from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.baking import bake_scene, render_scene
from dfm_lightning.callbacks.next_observation import Candidates, stacked
from dfm_lightning.callbacks.output import Picture, Video, colour_map, images_to_uint8, write_png, write_video
from dfm_lightning.callbacks.prediction_writer import PredictionWriter
from dfm_lightning.callbacks.tensor_writer import write_images
from dfm_lightning.errors import UserError
from dfm_lightning.exports import Export, export_scene
from dfm_lightning.files import write_json
from dfm_lightning.geometry.cameras import flip_opengl_opencv, intrinsics_in_pixels
from dfm_lightning.ranges import check_at_least
from dfm_lightning.tasks import SampledScene, SynthesisedViews
from dfm_lightning.types import Cameras, Prediction, map_tensors, on_cpu

DEPTH_MEANING = "distance along the unit ray, scene units; pixel value times scale; 0 where nothing is"


class SceneWriter(PredictionWriter):
    """Write each sampled scene as videos and frames along its trajectory, with depth and cameras.

    `video.mp4` and `frames/`; `depth.mp4` in colours and `depth/` as 16-bit PNG, with their scale in `depth.json`;
    the cameras in `transforms.json` (NeRF's format: OpenGL camera-to-world, intrinsics in pixels); the context as
    `context_00.png`, the views sampled one after the other as `sampled_00.png` and so on.

    With `export`, the scene is baked as well and written in the given formats (see
    `dfm_lightning.exports.export_scene`); `export.json` holds the PSNR of its frames to the direct ones.

    Args:
        output: folder to write into.
        frame_rate: frames per second of the videos.
        overwrite: replace samples made with other settings, instead of stopping.
        export: what else to write a scene as, a list of "scene" (the baked scene, which can be rendered again),
            "mesh" (GLB), "pointcloud" (PLY) and "splats" (the PLY of Gaussian splatting).
        export_resolution: cells along a side of the grid that a scene is baked into, a multiple of 8.
    """

    def __init__(
        self,
        output: str,
        frame_rate: int = 15,
        overwrite: bool = False,
        export: list[Export] | None = None,
        export_resolution: int = 192,
    ) -> None:
        super().__init__(output, overwrite)
        check_at_least(1, frame_rate=frame_rate)
        check_at_least(8, export_resolution=export_resolution)
        if export_resolution % 8:
            raise ValueError(f"export_resolution must be a multiple of 8, got {export_resolution}")
        self.frame_rate = frame_rate
        self.export: list[Export] = list(export or [])
        self.export_resolution = export_resolution

    def write(self, prediction: Prediction, folder: Path) -> None:
        """See `PredictionWriter`."""
        scene = prediction.signal
        if not isinstance(scene, (SampledScene, SynthesisedViews)):
            raise UserError(f"SceneWriter writes sampled scenes, got {type(scene).__name__}: use TensorWriter")
        frames = images_to_uint8(prediction.observation)
        write_video(folder / "video.mp4", frames, self.frame_rate)
        for number, frame in enumerate(frames):
            write_png(folder / "frames" / f"{number:04}.png", frame)
        write_depth(folder, scene.depth[:, 0].cpu(), scene.opacity[:, 0].cpu(), self.frame_rate)
        contexts = prediction.context.observation.shape[1]
        write_images(folder, "context", scene.views.observation[0, :contexts])
        write_images(folder, "sampled", scene.views.observation[0, contexts:])
        cameras = map_tensors(lambda t: t[0], prediction.params)
        write_json(folder / "transforms.json", transforms(cameras))
        if self.export:
            if not isinstance(scene, SampledScene):
                raise UserError("views that are predicted one by one have no scene to export: leave out --export")
            self._export(prediction, scene, folder)

    def _export(self, prediction: Prediction, scene: SampledScene, folder: Path) -> None:
        """Bake a scene, say how faithful that is, and write it in other formats."""
        cameras = prediction.params
        baked = bake_scene(
            scene.field, scene.renderer, cameras, scene.depth, scene.opacity, self.export_resolution
        )
        cameras = on_cpu(cameras)
        error = (render_scene(baked, cameras) - on_cpu(prediction.observation)).double().square().mean() / 4
        fidelity = {
            "psnr": round(-10 * float(error.clamp(min=1e-12).log10()), 2),
            "bricks": len(baked.field.values),
        }
        print(
            f"{prediction.key}, sample {prediction.sample}: baked, PSNR {fidelity['psnr']} dB to direct rendering"
        )
        write_json(folder / "export.json", fidelity)
        export_scene(baked, cameras, self.export, folder)

    def figures(self, folder: Path) -> list[Picture | Video]:
        """See `PredictionWriter`."""
        views = [Picture(path, path.stem) for path in sorted(folder.glob("*_[0-9][0-9].png"))]
        return [Video(folder / "video.mp4", "video"), Video(folder / "depth.mp4", "depth"), *views]

    def candidates(self, folders: list[Path]) -> Candidates | None:
        """See `PredictionWriter`: the cameras of the frames."""
        observations = stacked([read_frames(folder / "frames") for folder in folders])
        if observations is None:
            return None
        return Candidates([{"frame": number} for number in range(observations.shape[1])], observations)


def read_frames(folder: Path) -> Float[Tensor, "v h w 3"]:
    """Read frames as numbers in [0, 1]."""
    return torch.stack([torch.from_numpy(imageio.imread(path)) / 255 for path in sorted(folder.glob("*.png"))])


def write_depth(
    folder: Path, depth: Float[Tensor, "v h w"], opacity: Float[Tensor, "v h w"], frame_rate: int
) -> None:
    """Write `depth/0000.png` and so on, `depth.json` with their scale, and `depth.mp4`."""
    values = depth.double().clamp(min=0).numpy()
    scale = max(float(values.max()), 1e-9) / 65535
    for number, frame in enumerate(values):
        write_png(folder / "depth" / f"{number:04}.png", (frame / scale).round().astype(np.uint16))
    write_json(folder / "depth.json", {"scale": scale, "meaning": DEPTH_MEANING})
    low, high = depth_range(depth, opacity)
    write_video(folder / "depth.mp4", colour_map(depth, low, high), frame_rate)


def depth_range(depth: Float[Tensor, "*n"], opacity: Float[Tensor, "*n"]) -> tuple[float, float]:
    """Return the depths between which colours change: those of nearly everything that is more than half opaque."""
    solid = depth[opacity > 0.5].float().numpy()
    if solid.size == 0:
        return 0.0, 1.0
    low, high = np.quantile(solid, [0.02, 0.98])
    return float(low), float(high)


def transforms(cameras: Cameras) -> dict[str, Any]:
    """Convert the cameras of frames to NeRF's transforms.json; their world is the first context camera's."""
    height, width = cameras.pixels.shape[1:3]
    poses = flip_opengl_opencv(cameras.camera_to_world)
    intrinsics = intrinsics_in_pixels(cameras.intrinsics, width, height)
    frames = [
        {
            "file_path": f"frames/{number:04}.png",
            "depth_file_path": f"depth/{number:04}.png",
            "fl_x": float(matrix[0, 0]),
            "fl_y": float(matrix[1, 1]),
            "cx": float(matrix[0, 2]),
            "cy": float(matrix[1, 2]),
            "transform_matrix": pose.tolist(),
        }
        for number, (pose, matrix) in enumerate(zip(poses, intrinsics, strict=True))
    ]
    return {"camera_model": "PINHOLE", "w": width, "h": height, "frames": frames}
