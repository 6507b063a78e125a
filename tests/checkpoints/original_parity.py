"""What a converted original model gives, beside what the original code gave.

As a program: `python tests/checkpoints/original_parity.py FILE ...` prints every item of such files of theirs.
"""

import importlib
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from ruled_weights import ruled_weights
from small_original import checkpoint_of
from torch import Tensor

from dfm_lightning.checkpoints.from_original import convert_dfm
from dfm_lightning.checkpoints.original_layout import LABEL_TABLE, LEVEL_BIAS, MLPS, recognise
from dfm_lightning.checkpoints.original_names import renamed_keys
from dfm_lightning.checkpoints.original_weights import OUR_LEVEL_BIAS
from dfm_lightning.checkpoints.stored_config import CONFIG_KEY
from dfm_lightning.diffusion import DDIM, ObservationDenoiser, dynamic_threshold
from dfm_lightning.forward_models.patches import crop_patches
from dfm_lightning.forward_models.ray_sampling import importance_distances
from dfm_lightning.geometry.cameras import pixel_grid
from dfm_lightning.geometry.rays import ray_directions, ray_origins
from dfm_lightning.module import DenoisedBatch
from dfm_lightning.networks.embeddings import level_sinusoids, positional_encoding
from dfm_lightning.tasks import InverseGraphics, SceneObjective
from dfm_lightning.types import Batch, Cameras, Views, select_views

DATA = Path(__file__).parents[1] / "data" / "original_dfm_small.pt"

# Rounding makes importance sampling jump between bins: here only means are bounded, and in images most pixels.
JUMPING = ("x0_", "guid", "ddim", "/patch_", "/weights", "/z_vals")
IMAGES = ("x0_", "ddim")
PIXEL_TOLERANCE = 1e-3
# For gradients the file states no difference between float32 and float64. It was measured apart: 4e-4, relative to
# the largest entry.
GRADIENT_TOLERANCE = 4e-4


class Item(NamedTuple):
    """One comparison: differences from the original values, and what the original code's own rounding amounts to.

    `within` is the share of values within PIXEL_TOLERANCE of their range. `rounding_max` and `rounding_mean` are
    None where the file states none.
    """

    name: str
    largest: float
    mean: float
    within: float
    rounding_max: float | None
    rounding_mean: float | None

    @property
    def jumps(self) -> bool:
        """Whether importance sampling has a part in it."""
        return any(part in self.name for part in JUMPING)

    @property
    def agrees(self) -> bool:
        """Within 3 times their own rounding: in the mean where sampling jumps, else in the maximum."""
        if self.jumps:
            bounded = self.rounding_mean is None or self.mean <= 3 * self.rounding_mean
            return bounded and (self.within >= 0.99 or not any(part in self.name for part in IMAGES))
        if self.rounding_max is None:
            return self.largest <= GRADIENT_TOLERANCE
        return self.largest <= 3 * self.rounding_max


def read_reference(path: Path) -> dict[str, Any]:
    """Read a reference file; one without weights has those of the rule."""
    reference = torch.load(path, weights_only=True)
    if "state_dict" not in reference:
        reference["state_dict"] = {**reference["buffers"], **ruled_weights(reference["weight_shapes"])}
    return reference


def converted(content: Mapping[str, Any], folder: Path, **options: Any) -> dict[str, Any]:
    """The checkpoint that `dfm convert dfm` makes of a file with this content."""
    torch.save(dict(content), folder / "theirs.pt")
    convert_dfm(folder / "theirs.pt", folder / "ours.ckpt", **options)
    return torch.load(folder / "ours.ckpt", weights_only=True)


def instantiate(settings: Any) -> Any:
    """An object from its class_path and init_args, as the command line makes it."""
    if isinstance(settings, dict) and "class_path" in settings:
        module, _, name = settings["class_path"].rpartition(".")
        arguments = {name: instantiate(value) for name, value in settings.get("init_args", {}).items()}
        return getattr(importlib.import_module(module), name)(**arguments)
    return tuple(settings) if isinstance(settings, list) else settings


def build_task(
    checkpoint: Mapping[str, Any], near: float, far: float, samples: tuple[int, int, int]
) -> InverseGraphics:
    """The task of a converted checkpoint with the losses of the original RealEstate10k training.

    `samples`: coarse, fine, and the estimate's.
    """
    model = checkpoint[CONFIG_KEY]["model"]["init_args"]
    coarse, fine, estimate = samples
    ends = {"near": near, "far": far}
    renderer = model["forward_model"]["init_args"]
    renderer |= {**ends, "coarse_samples": coarse, "fine_samples": fine, "jitter": False, "train_proposal": False}
    estimate_renderer = model["denoiser"]["init_args"]["estimate_renderer"]["init_args"]
    estimate_renderer |= {**ends, "coarse_samples": estimate, "fine_samples": 0, "jitter": False}
    task = InverseGraphics(
        **{name: instantiate(part) for name, part in model.items()},
        target_weight=0.5,
        novel_weight=0.5,
        objective=SceneObjective(
            distortion_weight=0.005,
            smoothness_weight=0.002,
            smoothness_depths=(1e-3, 80.0),
            fill_depth=False,
            proposal_weight=0.0,
        ),
        random_context_views=False,
        guidance_space="observation",
    )
    task.load_state_dict(checkpoint["state_dict"])
    return task.eval()


def _task_of(reference: Mapping[str, Any], folder: Path) -> InverseGraphics:
    constructor, rendering = reference["settings"]["ctor"], reference["settings"]["render_settings"]
    checkpoint = converted(checkpoint_of(reference["state_dict"]), folder, heads=constructor["heads"])
    samples = tuple(rendering[name] for name in ("n_coarse", "n_fine", "n_coarse_coarse"))
    task = build_task(checkpoint, constructor["near"], constructor["far"], samples)
    spacing = "inverse_distance" if rendering["lindisp"] else "distance"
    for renderer in (task.forward_model, task.denoiser.estimate_renderer):
        renderer.spacing = spacing
    return task


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """As Lightning's `precision: 64-true` does it while a model computes."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class Comparison:
    """The items of a reference file, computed by the converted model in one precision."""

    def __init__(self, reference: Mapping[str, Any], dtype: torch.dtype) -> None:
        self.reference = reference
        self.dtype = dtype
        with tempfile.TemporaryDirectory() as folder:
            self.task = _task_of(reference, Path(folder)).to(dtype)
        inputs = {
            name: value.to(dtype) if value.is_floating_point() else value
            for name, value in reference["inputs"].items()
        }
        self.inputs = inputs
        self.size = inputs["ctxt_rgb"].shape[-1]
        self.context = Views(inputs["ctxt_rgb"], self.cameras("ctxt"))
        self.targets = Views(inputs["trgt_rgb"], self.cameras("trgt"))
        self.target = select_views(self.targets, slice(1))
        self.level = inputs["t"]

    def cameras(self, which: str) -> Cameras:
        """Their cameras as ours."""
        pose = self.inputs[f"{which}_c2w"]
        return self._cameras(pose, self.inputs[f"{which}_abs_camera_poses"])

    def _cameras(self, pose: Tensor, absolute: Tensor) -> Cameras:
        views = pose.shape[1]
        intrinsics = self.inputs["intrinsics"][:, None].expand(-1, views, -1, -1)
        pixels = pixel_grid(self.size, self.size).to(self.dtype).expand(len(pose), views, -1, -1, -1)
        return Cameras(pose, intrinsics, absolute, pixels)

    def items(self) -> Iterator[Item]:
        """Every comparison."""
        values = {**self.reference["outputs"], **self.reference["debug"]}
        with torch.no_grad():
            ours = {**self._outputs(), **self._samples(), **self._debug()}
        for name, value in ours.items():
            yield self._item(name, value, values[name])
        for branch in ("cond", "uncond"):
            yield from self._training(branch)

    def _item(self, name: str, ours: Tensor, theirs: Any) -> Item:
        theirs = torch.as_tensor(theirs, dtype=torch.float64)
        if theirs.ndim > 3 and theirs.shape[-1] < ours.shape[-1]:
            # Of large maps a file may hold every so manieth row and column.
            step = ours.shape[-1] // theirs.shape[-1]
            ours = ours[..., ::step, ::step]
        theirs = theirs.reshape(ours.shape)
        difference = (ours.detach().double() - theirs).abs()
        rounding = self.reference["fp32_vs_fp64"].get(name, (None, None))
        scale = max(1.0, theirs.abs().max().item())
        share = (difference <= PIXEL_TOLERANCE * scale).double().mean().item()
        return Item(name, difference.max().item(), difference.mean().item(), share, rounding[0], rounding[1])

    # --- one step ----------------------------------------------------------------------------------------

    def _outputs(self) -> dict[str, Tensor]:
        denoiser, renderer, process = self.task.denoiser, self.task.forward_model, self.task.process
        noisy = process.add_noise(self.target.observation[:, 0], self.inputs["noise"], self.level)
        maps = denoiser.encoder.encode_context(
            self.context.observation.flatten(0, 1), self.context.params.absolute_pose.flatten(0, 1)
        )
        conditioning = denoiser.condition(self.context, self.target.params)
        dropped = denoiser.condition(denoiser.drop_context(self.context), self.target.params)
        target_maps = denoiser.encoder.encode_target(
            noisy, conditioning.estimate[:, 0], self.level, self.target.params.absolute_pose[:, 0]
        )
        self.signal = denoiser(noisy[:, None], self.level, conditioning)
        images = renderer.observe(self.signal, self.targets.params)
        without = renderer.observe(denoiser(noisy[:, None], self.level, dropped), self.target.params)
        c, u = images.observation[:, 0], without.observation[:, 0]
        guided = dynamic_threshold(u + 2 * (c - u), 0.95)
        return {
            "noisy_trgt_rgb": noisy,
            "ctxt_feats": maps.unflatten(0, self.context.observation.shape[:2]).movedim(-1, 2),
            "cond_render": conditioning.estimate[:, 0],
            "uncond_cond_render": dropped.estimate[:, 0],
            "trgt_feats": target_maps.movedim(-1, 1),
            "x0_rgb": c,
            "x0_depth": images.auxiliary.depth[:, 0, 0],
            "uncond_x0_rgb": u,
            "uncond_x0_depth": without.auxiliary.depth[:, 0, 0],
            "x0_rgb_two_targets": images.observation.flatten(0, 1),
            "x0_depth_two_targets": images.auxiliary.depth[:, :, 0].flatten(0, 1),
            "guid2_pred_noise": process.noise_from_clean(noisy, guided, self.level),
            "guid2_x_start": guided,
            "guid1_pred_noise": process.noise_from_clean(noisy, c, self.level),
        }

    # --- sampling ----------------------------------------------------------------------------------------

    def _samples(self) -> dict[str, Tensor]:
        settings = self.reference["settings"]
        sampler = DDIM(
            settings["ctor"]["sampling_timesteps"], 0.0, settings["temperature"], threshold_quantile=0.95
        )
        results = {}
        poses = self.inputs["render_poses"][:1].expand(len(self.context.observation), -1, -1, -1)
        for name, scale in (("ddim5", 1.0), ("ddim5_guid2", 2.0)):
            task = self.task
            denoise = ObservationDenoiser(
                task.denoiser,
                task.forward_model,
                self.context,
                self.target.params,
                guidance_scale=scale,
                guidance_space="observation",
            )
            noise = self.inputs["ddim_init_noise"][:, None]
            steps = list(sampler.sample(denoise, noise, task.process, lambda: torch.empty(())))
            states = [noise * settings["temperature"], *(step.noisy for step in steps)]
            video = task.forward_model.observe(steps[-1].source, self._cameras(poses, poses))
            results[f"{name}_all_steps"] = torch.cat(states, dim=1).add(1).div(2)
            results[f"{name}_video_uint8"] = (video.observation.add(1).mul(127.5)).floor().movedim(2, -1)
            results[f"{name}_video_depth"] = video.auxiliary.depth[:, :, 0]
        return results

    # --- parts -------------------------------------------------------------------------------------------

    def _debug(self) -> dict[str, Tensor]:
        debug = self.reference["debug"]
        ids = debug["time_ids"]
        points = self.inputs["rand_points"]
        borders, weights = debug["sample_pdf_bins"].to(self.dtype), debug["sample_pdf_weights"].to(self.dtype)
        distances = [borders[:, 0]]
        for border in borders.unbind(1):
            distances.append(2 * border - distances[-1])
        padded = torch.nn.functional.pad(weights, (1, 1))
        fine = importance_distances(torch.stack(distances, 1), padded, debug["sample_pdf_det16"].shape[1], False)
        cameras = self.task.forward_model.aligned(self.target.params)
        directions = ray_directions(cameras).flatten(1, 3)
        # Every so manieth ray, row by row.
        step = -(-directions.shape[1] // debug["ray_dirs"].shape[1])
        results = {
            "ray_dirs": directions[:, ::step],
            "ray_origins": ray_origins(cameras).expand_as(directions[:, ::step]),
            "dit_time_embed": level_sinusoids(ids, debug["dit_time_embed"].shape[1], "cosine_first", self.dtype),
            "mlp_time_embed": level_sinusoids(ids, debug["mlp_time_embed"].shape[1], "sine_first", self.dtype),
            "pos_enc_out": positional_encoding(debug["pos_enc_in"].to(self.dtype)),
            "sample_pdf_det16": fine,
        }
        fields = {
            "joint_fine0": (self.signal, "coarse"),
            "joint_fine1": (self.signal, "fine"),
            "coarse_fine0": (self.task.denoiser.deterministic_field(self.context), "coarse"),
        }
        for name, (field, stage) in fields.items():
            values = field.query(points, stage)
            results[f"{name}_sigma"] = values.density[..., None]
            results[f"{name}_rgbfeats"] = torch.cat([values.colour, values.features], dim=-1)
        return results

    # --- training ----------------------------------------------------------------------------------------

    def _training(self, branch: str) -> Iterator[Item]:
        train = self.reference["train"]
        theirs = train[branch]
        top, left = (torch.tensor(train[name]) for name in ("starth", "startw"))
        side = train["patch"]
        task = self.task
        novel = select_views(self.targets, slice(1, None))
        keys = [str(row) for row in range(len(self.level))]
        batch = Batch(self.context, self.target, novel, keys, {})
        if branch == "uncond":
            batch = batch._replace(context=task.denoiser.drop_context(self.context))
        with (
            patch.object(task.process, "training_levels", lambda count: self.level),
            patch.object(task.forward_model, "subsample", lambda v: crop_patches(v, top, left, side, side)),
            _default_dtype(self.dtype),
            patch("dfm_lightning.module.torch.randn_like", lambda like: self.inputs["noise"][:, None]),
        ):
            denoised: DenoisedBatch = task.denoise_noised(batch)._replace(context_dropped=branch == "uncond")
        terms = {**task.observation_losses(denoised), **task.regularisers(denoised)}
        observed = denoised.observed
        total = torch.stack([term.value * term.weight for term in terms.values()]).sum()
        zero = total.new_zeros(())
        values = {
            "rgb_loss": (terms["target"].value + terms["novel"].value) / 2,
            "dist_loss": terms["distortion"].value,
            "rgb_cond_loss": terms["estimate"].value if "estimate" in terms else zero,
            "depth_smooth_loss": terms["smoothness"].value,
            "total_0.005dist_0.002smooth_nolpips": total,
            "patch_rgb": observed.observation.flatten(0, 1).flatten(2),
            "patch_depth": observed.auxiliary.depth.flatten(0, 1).flatten(2).mT,
            "target_patch": denoised.compared.observation.flatten(3),
            "weights": observed.auxiliary.weights.flatten(0, 1).flatten(1, 2),
            "z_vals": observed.auxiliary.distances.flatten(0, 1).flatten(1, 2),
        }
        for name, value in values.items():
            yield self._item(f"train/{branch}/{name}", value, theirs[name])
        if branch == "cond":
            task.zero_grad()
            total.backward()
            yield from self._gradients(train["grads"])

    def _gradients(self, theirs: Mapping[str, Any]) -> Iterator[Item]:
        """Norm and first entries of the gradient of each of their parameters, relative to the larger of both."""
        ours = self._gradients_by_their_keys()
        for key, (norm, total, first) in theirs.items():
            gradient = ours[key].double()
            found = torch.cat([gradient.norm()[None], gradient.sum()[None], gradient.flatten()[: len(first)]])
            expected = torch.cat([torch.tensor([norm, total]).double(), first.double()])
            # The sum cancels: it is compared at the scale of what it sums.
            scale = torch.full_like(expected, max(norm, 1e-6))
            scale[1] *= gradient.numel() ** 0.5
            difference = (found - expected).abs() / scale
            yield Item(f"grad {key}", difference.max().item(), difference.mean().item(), 1.0, None, None)

    def _gradients_by_their_keys(self) -> dict[str, Tensor]:
        state = self.reference["state_dict"]
        sizes = recognise(state)
        ours: dict[str, Any] = {name: parameter.grad for name, parameter in self.task.named_parameters()}
        gradients = {key: ours[name] for key, name in renamed_keys(sizes).items() if ours[name] is not None}
        gradients[LEVEL_BIAS] = ours[OUR_LEVEL_BIAS]
        gradients[LABEL_TABLE] = torch.zeros(state[LABEL_TABLE].shape, dtype=self.dtype)
        gradients[LABEL_TABLE][0] = ours[OUR_LEVEL_BIAS]
        for mlp, name in MLPS["diffusion"].items():
            halves = [ours[f"denoiser.{name}.{half}_in.weight"] for half in ("position", "feature")]
            if halves[0] is not None:
                gradients[f"{mlp}lin_in.weight"] = torch.cat(halves, dim=1)
        return gradients

    def trained_keys(self) -> set[str]:
        """Their keys of all that a training step gave a gradient other than zero."""
        return {key for key, gradient in self._gradients_by_their_keys().items() if gradient.any()}


def main() -> int:
    """Print all items of the files named on the command line; 1 if any disagrees."""
    failures = 0
    for path in sys.argv[1:] or [str(DATA)]:
        reference = read_reference(Path(path))
        for dtype in (torch.float32, torch.float64):
            columns = ("max", "mean", "their max", "mean", "within")
            print(f"\n{Path(path).name}, {dtype}\n{'item':62} {' '.join(f'{name:>9}' for name in columns)}")
            for item in Comparison(reference, dtype).items():
                failures += not item.agrees
                numbers = (item.largest, item.mean, item.rounding_max, item.rounding_mean, item.within)
                shown = " ".join(" " * 9 if number is None else f"{number:9.3g}" for number in numbers)
                print(f"{item.name:62} {shown}{'' if item.agrees else ' DISAGREES'}")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
