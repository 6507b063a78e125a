"""The examples are found as in their own folders, and the shapes in their signatures are checked."""

import sys
from pathlib import Path

from jaxtyping import install_import_hook

EXAMPLES = Path(__file__).parents[2] / "examples"

sys.path.insert(0, str(EXAMPLES / "closed_form"))
MODULES = ["mixture", "problem", "comparison", "training", "breakages", "measure", "picture"]
install_import_hook(MODULES, "beartype.beartype")
