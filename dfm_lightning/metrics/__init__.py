"""Scores of images: PSNR, SSIM, LPIPS, FID, KID; scores and diversity of the samples of one scene."""

from dfm_lightning.metrics.images import ImageMetrics, masked_psnr, psnr, ssim
from dfm_lightning.metrics.realism import RealismMetrics, compare_features, warn_of_few
from dfm_lightning.metrics.samples import LOWER_IS_BETTER, SampleScores, best_and_mean, spread, vector_spread

__all__ = [
    "LOWER_IS_BETTER",
    "ImageMetrics",
    "RealismMetrics",
    "SampleScores",
    "best_and_mean",
    "compare_features",
    "masked_psnr",
    "psnr",
    "spread",
    "ssim",
    "vector_spread",
    "warn_of_few",
]
