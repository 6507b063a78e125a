"""The examples are found as in their own folders, and the shapes in their signatures are checked."""

import sys
from pathlib import Path

from shape_checks import check_shapes_of

EXAMPLES = Path(__file__).parents[2] / "examples"

sys.path.insert(0, str(EXAMPLES / "closed_form"))
MODULES = ["mixture", "problem", "comparison", "training", "breakages", "measure", "picture"]
check_shapes_of(*MODULES)
