"""The loop of a distillation: two steps an iteration, the same whether it is interrupted or not."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor
from torch.nn import functional as F

from dfm_lightning.diffusion import AncestralSteps, add_noise, clean_estimate, denoising_steps, falling_times
from dfm_lightning.errors import UserError
from dfm_lightning.files import whole_file
from dfm_lightning.forward_models import VolumeRendering
from dfm_lightning.losses.charbonnier import charbonnier
from dfm_lightning.networks.grid_field import GridField
from dfm_lightning.randomness import generator_for, seeded_generators
from dfm_lightning.record import changes_between
from dfm_lightning.tasks.distillation.settings import Distillation
from dfm_lightning.tasks.distillation.views import GivenView, RingView
from dfm_lightning.tasks.latent_views import LatentViews
from dfm_lightning.types import Cameras

Perceptual = Callable[[Tensor, Tensor], Tensor]


class Rendering:
    """A rendering of a training step: colours in [0, 1], and opacity."""

    def __init__(self, renderer: VolumeRendering, field: GridField, camera: Cameras) -> None:
        observed = renderer.observe(field, camera)
        self.image: Float[Tensor, "1 3 h w"] = (observed.observation[:, 0] + 1) / 2
        self.opacity: Float[Tensor, "1 1 h w"] = observed.auxiliary.opacity[:, 0]


class Distiller:
    """Fit a field to the input views, and to its own renderings as a diffusion model changes them.

    Random draws of an iteration are a function of the user's seed, the scene's name and the iteration's number.

    Args:
        model: the diffusion model.
        settings: the constants.
        renderer: renders the field; it is told to draw points at random.
        perceptual: a distance of images in [-1, 1], or none.
        name: what draws depend on beside the seed.
        made_with: what the distillation depends on besides its name, by name, so that a stored state of another
            one is refused.
    """

    def __init__(
        self,
        model: LatentViews,
        settings: Distillation,
        renderer: VolumeRendering,
        perceptual: Perceptual | None,
        name: tuple[str | int, ...],
        made_with: dict[str, Any],
    ) -> None:
        self.model = model
        self.settings = settings
        self.renderer = renderer
        self.perceptual = perceptual
        self.name = name
        # As read back from a file: lists for tuples, say.
        self.made_with = json.loads(json.dumps(made_with))
        self._samples: dict[int, Tensor] = {}

    def drawing(self, *of: str | int) -> AbstractContextManager[None]:
        """Open a block whose draws depend on the seed, the scene and the block's purpose."""
        return seeded_generators(generator_for(*self.name, *of).initial_seed())

    def run(self, field: GridField, given: list[GivenView], ring: list[RingView], path: Path | None) -> GridField:
        """Distil, beginning with the state at `path` if there is one; the file is kept up to date."""
        groups = [
            {"params": [field.grid.table], "lr": self.settings.grid_rate},
            {"params": list(field.layers.parameters()), "lr": self.settings.mlp_rate},
        ]
        optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15)
        begin = self._resume(path, field, optimizer)
        self.model.plan.worked(begin)
        errors: list[float] = []
        for iteration in range(begin, self.settings.iterations):
            with self.drawing("iteration", iteration), torch.enable_grad():
                view = given[int(torch.randint(len(given), ()))]
                loss, error = self.given_loss(field, view)
                _step(optimizer, loss)
                errors.append(error)
                number = int(torch.randint(len(ring), ()))
                _step(optimizer, self.ring_loss(field, ring[number], number, iteration))
            done = iteration + 1
            if done % self.settings.report_every == 0 or done == self.settings.iterations:
                self._report(done, errors)
                errors = []
            if path is not None and (done % self.settings.save_every == 0 or done == self.settings.iterations):
                self._save(path, done, field, optimizer)
            self.model.plan.worked(1)
        return field

    # --- losses -----------------------------------------------------------------------------------------

    def given_loss(self, field: GridField, view: GivenView) -> tuple[Tensor, float]:
        """Compute the loss at an input view, and its mean squared error of colours."""
        seen = Rendering(self.renderer, field, view.camera)
        loss = charbonnier(seen.image, view.image) + self._shape_loss(seen, view.mask) + self._opacity_loss(seen)
        return loss, float((seen.image.detach() - view.image).square().mean())

    def ring_loss(self, field: GridField, view: RingView, number: int, iteration: int) -> Tensor:
        """Compute the loss at a camera around the scene: to the estimate at first, then to the chosen targets."""
        seen = Rendering(self.renderer, field, view.camera)
        size = view.estimate.shape[-2:]
        image = F.interpolate(seen.image, size, mode="bilinear", align_corners=False)
        targets = self.settings.targets
        if iteration < self.settings.bootstrap or targets == "estimate":
            return charbonnier(image, view.estimate) + self._shape_loss(seen, self._reduced(view.mask))
        if targets == "samples":
            sample = self._sampled(view, number)
            mask = (sample.mean(dim=1, keepdim=True) > self.settings.mask_threshold).to(sample)
            return charbonnier(image, sample) + self._shape_loss(seen, self._reduced(mask))
        return self.mode_loss(image, view.features) + self._opacity_loss(seen)

    def mode_loss(self, image: Float[Tensor, "1 3 h w"], features: Float[Tensor, "1 f g g"]) -> Tensor:
        """Compare a rendering with itself, noised and denoised (thesis, eq. 4.5); targets are detached."""
        model, settings = self.model, self.settings
        latents = model.encode(2 * image - 1)
        time = float(torch.rand(()).clamp(max=settings.last_time))
        with torch.no_grad():
            denoised = self.denoised(latents.detach(), features, time)
        _, noise_rate = model.process.rates_at(torch.tensor([time], dtype=torch.float64))
        weight = float(noise_rate.square())
        if settings.loss_space == "latent":
            loss = weight * self._distance(latents, denoised)
            if self.perceptual is None:
                return loss
        with torch.no_grad():
            target = model.codec.decode(denoised).clamp(-1, 1)
        if settings.loss_space == "pixel":
            loss = weight * self._distance(image, (target + 1) / 2)
        if self.perceptual is not None:
            loss = loss + settings.perceptual_weight * self.perceptual(2 * image - 1, target)
        return loss

    def denoised(
        self, latents: Float[Tensor, "1 c h w"], features: Float[Tensor, "1 f h w"], time: float
    ) -> Float[Tensor, "1 c h w"]:
        """Noise latents at a time and denoise them again, in one estimate or in several steps."""
        model, settings = self.model, self.settings
        at = torch.full((1,), time, dtype=latents.dtype, device=latents.device)
        noisy = add_noise(model.process, latents, torch.randn_like(latents), at)

        def predict(state: Tensor, times: Tensor) -> Tensor:
            return model.predict_noise(state, features, times)

        if settings.most_steps == 1:
            return clean_estimate(model.process, noisy, predict(noisy, at), at, model.clip)
        steps = denoising_steps(time, settings.most_steps, least=0 if settings.as_released else 1)
        sampler = AncestralSteps(model.process, lambda: torch.randn_like(latents), model.clip)
        return sampler.denoise(predict, noisy, falling_times(time, steps) if steps else [])

    def _distance(self, found: Tensor, target: Tensor) -> Tensor:
        difference = found - target
        return difference.square().mean() if self.settings.squared else difference.abs().mean()

    def _shape_loss(self, seen: Rendering, mask: Float[Tensor, "1 1 h w"]) -> Tensor:
        return self.settings.silhouette_weight * charbonnier(seen.opacity, mask)

    def _opacity_loss(self, seen: Rendering) -> Tensor:
        return self.settings.opacity_weight * (seen.opacity.square() + 0.01).sqrt().mean()

    def _reduced(self, mask: Float[Tensor, "1 1 h w"]) -> Float[Tensor, "1 1 s s"]:
        return F.interpolate(mask, (self.settings.render_size,) * 2, mode="area")

    def _sampled(self, view: RingView, number: int) -> Float[Tensor, "1 3 h w"]:
        """Sample the view of a camera, in [0, 1]: always the same."""
        if number not in self._samples:
            with torch.no_grad():
                self._samples[number] = (self.model.sample_view(view.features, (*self.name, number)) + 1) / 2
        return self._samples[number]

    # --- state ------------------------------------------------------------------------------------------

    def _resume(self, path: Path | None, field: GridField, optimizer: torch.optim.Optimizer) -> int:
        if path is None or not path.is_file():
            return 0
        try:
            state: Any = torch.load(path, map_location=field.grid.table.device, weights_only=True)
            changes = changes_between(state["made_with"], self.made_with)
            iteration = int(state["iteration"])
        except Exception as error:
            raise UserError(f"{path} is damaged, or not the state of a distillation: remove it") from error
        if changes:
            raise UserError(
                f"{path} is of a distillation with other settings ({changes}): remove it, or set "
                "distillation.folder to another one"
            )
        field.load_state_dict(state["field"])
        optimizer.load_state_dict(state["optimizer"])
        return min(iteration, self.settings.iterations)

    def _save(self, path: Path, iteration: int, field: GridField, optimizer: torch.optim.Optimizer) -> None:
        state = {
            "made_with": self.made_with,
            "iteration": iteration,
            "field": field.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as aside:
            torch.save(state, aside)

    def _report(self, iteration: int, errors: list[float]) -> None:
        error = sum(errors) / max(len(errors), 1)
        quality = -10 * torch.log10(torch.tensor(max(error, 1e-10)))
        scene = " ".join(map(str, self.name[1:]))
        rank_zero_info(
            f"{scene}: iteration {iteration} of {self.settings.iterations}, input views {quality:.2f} dB"
        )


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    # The networks that the loss passes through have no gradient of their own.
    loss.backward(inputs=[parameter for group in optimizer.param_groups for parameter in group["params"]])
    optimizer.step()
