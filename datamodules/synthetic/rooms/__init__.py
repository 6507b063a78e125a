"""Synthetic rooms in the layouts of RealEstate10k, with doors behind which the first frame cannot see."""

from datamodules.synthetic.production import TRUTH_FILE
from datamodules.synthetic.rooms.writer import EVALUATION_INDEX, HIDDEN_MASKS, write_synthetic_rooms

__all__ = ["EVALUATION_INDEX", "HIDDEN_MASKS", "TRUTH_FILE", "write_synthetic_rooms"]
