"""Scores of images: PSNR, SSIM, LPIPS; how samples of one scene score and differ."""

from dfm_lightning.metrics.images import ImageMetrics, psnr, ssim
from dfm_lightning.metrics.samples import LOWER_IS_BETTER, SampleScores, best_and_mean, spread

__all__ = ["LOWER_IS_BETTER", "ImageMetrics", "SampleScores", "best_and_mean", "psnr", "spread", "ssim"]
