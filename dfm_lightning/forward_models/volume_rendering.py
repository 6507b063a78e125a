"""Volume rendering of radiance fields as a forward model (DFM section 4.1)."""

from collections.abc import Callable
from copy import copy
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.chunks import in_chunks
from dfm_lightning.forward_models.patches import random_patches
from dfm_lightning.forward_models.placement import Placement
from dfm_lightning.forward_models.ray_rendering import RayRendering, RenderedRays, rays_per_chunk, render_rays
from dfm_lightning.forward_models.ray_sampling import Spacing
from dfm_lightning.geometry.rays import corner_aligned, ray_directions, ray_origins
from dfm_lightning.interfaces import ForwardModel
from dfm_lightning.ranges import check_above, check_at_least, check_within
from dfm_lightning.signals import RadianceField
from dfm_lightning.types import Cameras, Observed, Views, concatenate


class RenderingDetails(NamedTuple):
    """Intermediate results of rendering beside the image.

    Depth is the expected distance along the unit ray, Σ w z, not divided by the opacity. `features` are composited
    like the colour. `proposal_observation` is the coarse pass's own image, in [-1, 1]. Weights and distances are
    those of the points along each ray, from near to far.
    """

    depth: Float[Tensor, "b v 1 h w"]
    opacity: Float[Tensor, "b v 1 h w"]
    features: Float[Tensor, "b v f h w"]
    proposal_observation: Float[Tensor, "b v 3 h w"]
    weights: Float[Tensor, "b v h w s"]
    distances: Float[Tensor, "b v h w s"]


class VolumeRendering(ForwardModel[RadianceField, Cameras]):
    """Render a radiance field at the pixels of cameras, as images in [-1, 1].

    In training mode the points along the rays are random; in evaluation mode they are not, so that the same field
    gives the same image.

    A model has one forward model, whose near, far, background and corner_aligned also apply to its denoiser's
    renderer, where they are null (see `share`).

    Args:
        near: distance along each ray at which the scene begins, in scene units.
        far: distance at which it ends.
        coarse_samples: points of the coarse pass, spread over the whole ray.
        fine_samples: further points, placed where the coarse pass found content; 0 for no fine pass.
        spacing: whether coarse points are equally spaced in distance or in inverse distance.
        background: red, green and blue, in [0, 1], of the background behind the scene; black if null.
        jitter: whether training moves each coarse point at random within its stratum, except those at the ends
            (the first, the last two). Off in the original models.
        train_proposal: whether gradients flow through the coarse pass, so that a loss can train it. Off in the
            original models.
        patch_size: side of the random square of pixels that a training step compares.
        memory_budget_mb: memory limit that sets the size of chunks of rays. By default 32 on the CPU, where small
            chunks stay in its cache and are faster, and 4096 elsewhere. A chunk that nevertheless does not fit
            into memory is halved if no gradient is needed.
        checkpointing: recompute the points' values in the backward pass instead of keeping them: a training step
            then takes little more memory than a chunk, and a third more time.
        corner_aligned: whether the outer pixels' centres lie at 0 and 1 of the intrinsics, as in the original
            models, instead of at (i + ½)/N; they do not if null.
        along_axis: whether points are spaced, and densities integrated, in depth along the camera's axis, as in
            SparseFusion's code, instead of distance along the ray; near and far are then such depths.
        skipped_light: share of each pixel's light that evaluation may leave out of the fine pass: that of the
            points which give least, empty or hidden as the coarse pass shows them. 0 leaves out none. A pixel is
            then wrong by up to twice the share, in [-1, 1], where both passes agree on the density.
        noisy_fine_samples: points of the fine pass in evaluations of the denoiser on more noise than signal, which
            samplers begin with; `fine_samples` if null. Fewer make these quicker, and less exact.
        evaluations_per_placement: successive evaluations of a sampling run that have their fine points at the same
            places: the coarse pass places them in the first of so many, and the others do without it. They then
            have all their points in common, so that what is remembered of the context serves for all of them.
            More than 1 is quicker, and less exact. Not together with `skipped_light`, which needs the coarse pass
            each time.
    """

    fixed_by_checkpoint = frozenset({"background", "corner_aligned"})
    without_effect = frozenset({"jitter", "train_proposal", "patch_size", "memory_budget_mb", "checkpointing"})

    near: float
    far: float

    def __init__(
        self,
        near: float | None = None,
        far: float | None = None,
        coarse_samples: int = 64,
        fine_samples: int = 64,
        spacing: Spacing = "distance",
        background: tuple[float, float, float] | None = None,
        jitter: bool = True,
        train_proposal: bool = True,
        patch_size: int = 24,
        memory_budget_mb: float | None = None,
        checkpointing: bool = False,
        corner_aligned: bool | None = None,
        along_axis: bool = False,
        skipped_light: float = 0.0,
        noisy_fine_samples: int | None = None,
        evaluations_per_placement: int = 1,
    ) -> None:
        super().__init__()
        check_above(0, near=near, far=far, memory_budget_mb=memory_budget_mb)
        check_at_least(1, patch_size=patch_size, evaluations_per_placement=evaluations_per_placement)
        check_at_least(3, coarse_samples=coarse_samples)
        check_at_least(0, fine_samples=fine_samples, noisy_fine_samples=noisy_fine_samples)
        check_within(0, 1, background=background, skipped_light=skipped_light)
        if near is not None and far is not None and near >= far:
            raise ValueError(f"near and far must satisfy 0 < near < far, got {near} and {far}")
        if skipped_light > 0 and evaluations_per_placement > 1:
            raise ValueError(
                f"skipped_light ({skipped_light}) needs the coarse pass in every evaluation: "
                f"set evaluations_per_placement to 1, not {evaluations_per_placement}, or skipped_light to 0"
            )
        given = {"near": near, "far": far, "background": background, "corner_aligned": corner_aligned}
        self._shared = frozenset(name for name, value in given.items() if value is None)
        if near is not None:
            self.near = near
        if far is not None:
            self.far = far
        self.coarse_samples = coarse_samples
        self.fine_samples = fine_samples
        self.spacing = spacing
        self.background = background or (0.0, 0.0, 0.0)
        self.jitter = jitter
        self.train_proposal = train_proposal
        self.patch_size = patch_size
        self.memory_budget_mb = memory_budget_mb
        self.along_axis = along_axis
        self.checkpointing = checkpointing
        self.corner_aligned = bool(corner_aligned)
        self.skipped_light = skipped_light
        self.noisy_fine_samples = noisy_fine_samples
        self.evaluations_per_placement = evaluations_per_placement
        self._placement: Placement | None = None
        # With fewer fine points chunks stay the same, so that what is remembered of coarse points is found again.
        self._points_per_ray = coarse_samples + fine_samples

    def share(self, conventions: "VolumeRendering", name: str) -> None:
        """Take near, far, background and corner_aligned, where they are null, from another renderer of the scenes.

        Args:
            conventions: the renderer that has them, the forward model.
            name: the name of this renderer in a config, for messages.

        Raises:
            UserError: this renderer was given another value.
        """
        conventions.require_ends()
        for setting in ("near", "far", "background", "corner_aligned"):
            value = getattr(conventions, setting)
            if setting in self._shared:
                setattr(self, setting, value)
            elif getattr(self, setting) != value:
                raise UserError(
                    f"{name}.{setting} is {getattr(self, setting)}, but the forward model has {value}: "
                    "leave out the former"
                )

    def require_ends(self) -> None:
        """Raise `UserError` if near or far is unset."""
        lacking = [name for name in ("near", "far") if name not in vars(self)]
        if lacking:
            raise UserError(
                f"VolumeRendering needs {' and '.join(lacking)}, in scene units: set forward_model.near and far"
            )
        if self.near >= self.far:
            raise UserError(f"near and far must satisfy 0 < near < far, got {self.near} and {self.far}")

    def forward(self, signal: RadianceField, params: Cameras) -> Float[Tensor, "b v 3 h w"]:
        """Render the images alone."""
        # With gradients an evaluation may be computed twice, and must be the same both times.
        placement = None if torch.is_grad_enabled() else self._placement
        if placement is not None:
            placement.begin()
        colour = concatenate(self._render(signal, params, lambda rays: rays.colour, placement), dim=1)
        return self._as_images(colour, params) * 2 - 1

    def observe(self, signal: RadianceField, params: Cameras) -> Observed:
        """Render the images and `RenderingDetails`."""
        rays = concatenate(self._render(signal, params, lambda rays: rays), dim=1)
        shape = params.pixels.shape[:-1]
        details = RenderingDetails(
            depth=self._as_images(rays.depth, params) * self._directions(params).norm(dim=-1)[:, :, None],
            opacity=self._as_images(rays.opacity, params),
            features=self._as_images(rays.features, params),
            proposal_observation=self._as_images(rays.proposal_colour, params) * 2 - 1,
            weights=rays.weights.unflatten(1, shape[1:]),
            distances=rays.distances.unflatten(1, shape[1:]) * self._directions(params).norm(dim=-1)[..., None],
        )
        return Observed(self._as_images(rays.colour, params) * 2 - 1, details)

    def subsample(self, views: Views) -> Views:
        """Crop a random square of `patch_size` pixels of each scene, at the same place in all its views."""
        return random_patches(views, self.patch_size)

    def while_noisy(self) -> "VolumeRendering":
        """See `ForwardModel`: the same renderer with `noisy_fine_samples`."""
        if self.noisy_fine_samples is None:
            return self
        quicker = copy(self)
        quicker.fine_samples = self.noisy_fine_samples
        return quicker

    def in_run(self) -> "VolumeRendering":
        """See `ForwardModel`: the same renderer, which keeps the places of fine points for some evaluations."""
        if self.evaluations_per_placement == 1:
            return self
        running = copy(self)
        running._placement = Placement(self.evaluations_per_placement)
        return running

    def aligned(self, cameras: Cameras) -> Cameras:
        """Return the cameras with the intrinsics that rendering uses (see `corner_aligned`)."""
        return corner_aligned(cameras) if self.corner_aligned else cameras

    def centred(self) -> "VolumeRendering":
        """Return a renderer for cameras that `aligned` gave: in evaluation mode, with exact pixel centres."""
        self.require_ends()
        return VolumeRendering(
            near=self.near,
            far=self.far,
            coarse_samples=self.coarse_samples,
            fine_samples=self.fine_samples,
            spacing=self.spacing,
            background=self.background,
            memory_budget_mb=self.memory_budget_mb,
            along_axis=self.along_axis,
        ).eval()

    def _render(
        self,
        field: RadianceField,
        cameras: Cameras,
        select: Callable[[RenderedRays], Any],
        placement: Placement | None = None,
    ) -> list[Any]:
        """Collect what `select` takes from each chunk of rays; the rays of all views share one dimension."""
        settings = self._settings()
        directions = self._directions(cameras)
        origins = ray_origins(cameras)[:, :, None, None].expand_as(directions)
        number = torch.arange(directions[0].numel() // 3)[None]
        rays = origins.flatten(1, 3), directions.flatten(1, 3), number
        size = rays_per_chunk(
            field, self._points_per_ray, len(directions), self.memory_budget(directions), directions.element_size()
        )

        def render(origins: Tensor, directions: Tensor, number: Tensor) -> Any:
            if self.checkpointing and torch.is_grad_enabled():
                return select(checkpoint(render_rays, field, origins, directions, settings, use_reentrant=False))
            return select(render_rays(field, origins, directions, settings, int(number[0, 0]), placement))

        return list(in_chunks(render, rays, size, dim=1))

    def _directions(self, cameras: Cameras) -> Float[Tensor, "b v h w 3"]:
        """Return the vectors that distances are multiples of: unit vectors, or vectors one unit deep."""
        directions = ray_directions(self.aligned(cameras))
        if not self.along_axis:
            return directions
        axis = cameras.camera_to_world[:, :, None, None, :3, 2]
        return directions / (directions * axis).sum(dim=-1, keepdim=True)

    def _settings(self) -> RayRendering:
        self.require_ends()
        return RayRendering(
            near=self.near,
            far=self.far,
            coarse_samples=self.coarse_samples,
            fine_samples=self.fine_samples,
            spacing=self.spacing,
            background=self.background,
            jitter=self.jitter and self.training,
            random_importance=self.training,
            train_proposal=self.train_proposal,
            skipped_light=0.0 if self.training else self.skipped_light,
        )

    def memory_budget(self, like: Tensor) -> int:
        """Return the size of a chunk of rays in bytes, on the device of `like`."""
        megabytes = self.memory_budget_mb or (32 if like.device.type == "cpu" else 4096)
        return int(megabytes * 2**20)

    def _as_images(self, values: Float[Tensor, "b n c"], cameras: Cameras) -> Float[Tensor, "b v c h w"]:
        return values.unflatten(1, cameras.pixels.shape[1:-1]).movedim(-1, 2)
