"""Synthetic scenes in the layout of Co3D, with hidden parts of a known distribution."""

from datamodules.synthetic.co3d.writer import HIDDEN_MASKS, write_synthetic_co3d
from datamodules.synthetic.production import TRUTH_FILE

__all__ = ["HIDDEN_MASKS", "TRUTH_FILE", "write_synthetic_co3d"]
