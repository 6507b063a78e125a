"""The deterministic baseline of inverse graphics: one scene for one context, trained by regression."""

from collections.abc import Sequence

import torch

from dfm_lightning.interfaces import check_batch
from dfm_lightning.module import DenoisedBatch
from dfm_lightning.sampling import NoiseNames, evaluated
from dfm_lightning.signals import RadianceField
from dfm_lightning.tasks.inverse_graphics import InverseGraphics
from dfm_lightning.types import Batch, Cameras, LossTerm, Request, Sample, Views, repeat_batch


class DeterministicInverseGraphics(InverseGraphics):
    """Predict the scene that the context determines, without noise and without a target: pixelNeRF.

    Only the denoiser's `deterministic_field` is trained, by a diffusion model's losses at target and novel views
    (DFM's comparison with a deterministic pixelNeRF, section 5). If several scenes are possible it shows their
    mean. All samples of a context are this one scene, so `samples` should be 1; settings of diffusion, sampling
    and warm start have no effect.
    """

    @property
    def warming_up(self) -> bool:
        """Return False: there is only one stage."""
        return False

    def losses(self, batch: Batch, context_dropped: bool = False) -> dict[str, LossTerm]:
        """Compare the deterministic scene with target and novel views; add the regularisers of rendering."""
        check_batch(batch)
        signal = self.denoiser.deterministic_field(batch.context)
        compared, observed = self.compare(signal, batch)
        level = torch.zeros(len(batch.key), dtype=torch.long, device=self.device)  # there is no noise
        # With the context counted as dropped, no second deterministic estimate is asked for.
        denoised = DenoisedBatch(batch, level, None, signal, compared, observed, context_dropped=True)
        return {**self.observation_losses(denoised), **self.regularisers(denoised)}

    @evaluated
    def sample(
        self, context: Views, target_params: Cameras, noise_names: NoiseNames, size: tuple[int, ...]
    ) -> Sample:
        """Return the deterministic scene and its view of the target, once for each name."""
        times = len(noise_names) // len(context.observation)
        field = self._fields(context, times)
        return Sample(field, self.forward_model(field, repeat_batch(target_params, times)))

    def sample_around(
        self, context: Views, trajectory: Cameras, names: Sequence[tuple[str | int, ...]]
    ) -> tuple[Sample, Views]:
        """Return the deterministic scene of the context alone: its own views would add nothing."""
        views = repeat_batch(context, len(names))
        return Sample(self._fields(context, len(names)), views.observation), views

    def work(self, batch: Batch | Request) -> int:
        """See `Predictor`: a piece is a rendering of one view."""
        if isinstance(batch, Request):
            return len(batch.key) * self.draws * batch.params.pixels.shape[1]
        views = sum(part.observation.shape[1] for part in (batch.context, batch.target, batch.novel))
        return len(batch.key) * (self.samples + 1) * views

    def _fields(self, context: Views, times: int) -> RadianceField:
        """Return the scenes of a batch of contexts, each this many times, side by side."""
        return repeat_batch(self.denoiser.deterministic_field(context), times)
