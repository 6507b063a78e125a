"""The minority score: how much of a sample is lost when it is noised and denoised again."""

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.diffusion.noise_process import NoiseProcess, Number
from dfm_lightning.diffusion.samplers.evaluation import Denoise, DrawNoise, Evaluator
from dfm_lightning.ranges import check_at_least, check_within
from dfm_lightning.record import Recorded


class MinorityScore(Recorded):
    """Scores how rare clean observations are: E ‖x − m(α x + σ ε)‖² over noise ε, a mean over the observation.

    A denoiser's estimate m is a mean over likely observations, so that it restores common ones and not rare
    ones (Um et al. 2024, section 3; their distance is LPIPS, here it is the squared error). Comparable between
    samples of the same model and context, with the same settings.

    Cost: `draws` evaluations of the denoiser a sample.

    Args:
        draws: number of draws of the noise.
        share: at which level, as a share of the noisiest one.
    """

    def __init__(self, draws: int = 5, share: Number = 0.5) -> None:
        check_at_least(1, draws=draws)
        check_within(0, 1, share=share)
        self.draws = draws
        self.share = share

    def level(self, process: NoiseProcess) -> Number:
        """Return the level of a process at which observations are noised."""
        level = self.share * process.last_level
        return round(level) if process.integer_levels else level

    def __call__(
        self,
        denoise: Denoise,
        clean: Float[Tensor, "b *o"],
        process: NoiseProcess,
        draw_noise: DrawNoise,
        threshold_quantile: Number = 0.0,
    ) -> Float[Tensor, " b"]:
        """Score each clean observation.

        Args:
            denoise: see `Sampler.sample`.
            clean: what to score.
            process: the noising that the denoiser was trained with.
            draw_noise: gives fresh standard normal noise of the same shape.
            threshold_quantile: see `Sampler`.
        """
        evaluate = Evaluator(denoise, process, threshold_quantile)
        point = evaluate.point(self.level(process))
        errors = []
        for _ in range(self.draws):
            noise = draw_noise()
            # As precise as the noise at least, whatever the observations are stored in.
            precise = clean.to(torch.promote_types(clean.dtype, noise.dtype))
            estimate = evaluate(point.signal_rate * precise + point.noise_rate * noise, point).clean
            errors.append((precise - estimate).square().flatten(1).mean(dim=1))
        return torch.stack(errors).mean(dim=0)
