"""The losses of tasks besides the squared errors of observations."""

from dataclasses import dataclass

from dfm_lightning.losses import PerceptualLoss
from dfm_lightning.ranges import check_ascending, check_at_least, check_within


@dataclass
class SceneObjective:
    """Weights and settings of the losses of inverse graphics.

    Args:
        estimate_weight: weight of the deterministic estimate's squared error at the target view.
        perceptual: LPIPS between rendered patches and images; none by default.
        perceptual_weight: its weight.
        distortion_weight: weight of the distortion of the weights along rays (mip-NeRF 360).
        smoothness_weight: weight of the edge-aware smoothness of disparity.
        smoothness_depths: least and greatest depth in the smoothness, in scene units; the renderer's near and far
            if null. The original uses 1e-3 and 80.
        fill_depth: whether the smoothness treats a ray's remaining transmittance as lying at `far`. Otherwise it
            counts as depth 0, as in the original code, and empty rays look nearer than anything.
        proposal_weight: weight of the squared error of the coarse pass's own rendering. Without it (0, as in the
            original code) the coarse pass never learns where the scene is.
    """

    estimate_weight: float = 1.0
    perceptual: PerceptualLoss | None = None
    perceptual_weight: float = 0.2
    distortion_weight: float = 0.02
    smoothness_weight: float = 0.02
    smoothness_depths: tuple[float, float] | None = None
    fill_depth: bool = True
    proposal_weight: float = 1.0

    def __post_init__(self) -> None:
        check_at_least(0, estimate_weight=self.estimate_weight, perceptual_weight=self.perceptual_weight)
        check_at_least(0, distortion_weight=self.distortion_weight, smoothness_weight=self.smoothness_weight)
        check_at_least(0, proposal_weight=self.proposal_weight)
        check_ascending(0, smoothness_depths=self.smoothness_depths)


@dataclass
class MotionObjective:
    """Weights and settings of the losses of motion prediction.

    Args:
        hole_weight: weight of an error in a hole of the warped image: 1 as anywhere else, 0 none. The coverage has
            no gradient, so that the motion is not rewarded for making holes.
        smoothness_weight: weight of the edge-aware smoothness of the flow.
        edge_strength: how much the image's edges reduce the cost of the flow's changes.
        magnitude_weight: weight of the flow's mean length in pixels: pixels that need not move stay. Too large a
            weight keeps everything still.
        perceptual: LPIPS between warped and true frames; none by default.
        perceptual_weight: its weight.
    """

    hole_weight: float = 1.0
    smoothness_weight: float = 0.02
    edge_strength: float = 1.0
    magnitude_weight: float = 0.0
    perceptual: PerceptualLoss | None = None
    perceptual_weight: float = 0.2

    def __post_init__(self) -> None:
        check_at_least(0, smoothness_weight=self.smoothness_weight, edge_strength=self.edge_strength)
        check_at_least(0, magnitude_weight=self.magnitude_weight, perceptual_weight=self.perceptual_weight)
        check_within(0, 1, hole_weight=self.hole_weight)
