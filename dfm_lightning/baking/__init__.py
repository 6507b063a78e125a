"""Scenes that leave their model: a field evaluated once on a sparse grid, and read from it ever after."""

from dfm_lightning.baking.bake import bake, seen_points
from dfm_lightning.baking.baked_field import BakedField
from dfm_lightning.baking.baked_scene import BakedScene, bake_scene, load_scene, render_scene, save_scene

__all__ = [
    "BakedField",
    "BakedScene",
    "bake",
    "bake_scene",
    "load_scene",
    "render_scene",
    "save_scene",
    "seen_points",
]
