"""The constants of a distillation."""

from dataclasses import dataclass
from typing import Literal

from dfm_lightning.ranges import check_above, check_at_least, check_within
from dfm_lightning.record import Recorded

TargetKind = Literal["mode", "samples", "estimate"]
LossSpace = Literal["pixel", "latent"]
PerceptualKind = Literal["lpips", "pyramid", "none"]


@dataclass
class Distillation(Recorded):
    """Constants of fitting a field to a diffusion model; the defaults are SparseFusion's.

    Args:
        iterations: of each scene.
        bootstrap: iterations at the beginning that fit the epipolar transformer's images.
        targets: what is fitted then. "mode": renderings, noised and denoised by the diffusion model (mode
            seeking). "samples": views sampled once for each camera; "estimate": the transformer's images (both fit
            a mean).
        loss_space: where renderings and their denoised versions are compared: as images or as latents.
        most_steps: denoising steps from the middle of the noise levels on, fewer below; 1 takes the network's
            estimate.
        perceptual: a distance of images beside that of pixels: LPIPS (needs VGG's weights), one of the
            transformer's pyramid's features, or none.
        squared: whether pixels are compared by squares, as in the thesis, instead of absolute values.
        render_size: side of renderings in pixels; they are enlarged to the model's image size.
        ring_cameras: cameras around the scene that targets are made for.
        jitter: the largest angle, in radians, by which they are raised or lowered at random.
        last_time: the greatest noise time that is drawn.
        mask_threshold: mean colour, in [0, 1], above which the transformer's images show an object.
        perceptual_weight: of the perceptual distance.
        opacity_weight: of the mean opacity, √(o² + 0.01).
        silhouette_weight: of the silhouettes' loss.
        grid_rate: learning rate of the grid.
        mlp_rate: learning rate of its MLP.
        as_released: whether to follow SparseFusion's code: test cameras help to fit the ring and are used as
            targets' cameras, noise of the lowest times is not removed again, and input views are reduced by taking
            the nearest pixels.
        folder: where states are kept, so that an interrupted distillation goes on; nowhere if null.
        save_every: iterations between two states.
        report_every: iterations between two reports of the input views' PSNR.
    """

    without_effect = frozenset({"folder", "save_every", "report_every"})

    iterations: int = 3000
    bootstrap: int = 1000
    targets: TargetKind = "mode"
    loss_space: LossSpace = "pixel"
    most_steps: int = 50
    perceptual: PerceptualKind = "lpips"
    squared: bool = False
    render_size: int = 128
    ring_cameras: int = 50
    jitter: float = 0.17
    last_time: float = 0.99
    mask_threshold: float = 0.1
    perceptual_weight: float = 0.1
    opacity_weight: float = 1e-3
    silhouette_weight: float = 1.0
    grid_rate: float = 5e-3
    mlp_rate: float = 5e-4
    as_released: bool = False
    folder: str | None = None
    save_every: int = 250
    report_every: int = 100

    def __post_init__(self) -> None:
        check_at_least(1, iterations=self.iterations, most_steps=self.most_steps, ring_cameras=self.ring_cameras)
        check_at_least(1, save_every=self.save_every, report_every=self.report_every)
        check_at_least(0, bootstrap=self.bootstrap, jitter=self.jitter, silhouette_weight=self.silhouette_weight)
        check_at_least(0, perceptual_weight=self.perceptual_weight, opacity_weight=self.opacity_weight)
        check_at_least(2, render_size=self.render_size)
        check_within(0, 1, mask_threshold=self.mask_threshold, last_time=self.last_time)
        check_above(0, grid_rate=self.grid_rate, mlp_rate=self.mlp_rate, last_time=self.last_time)
