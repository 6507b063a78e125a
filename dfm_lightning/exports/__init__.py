"""Baked scenes in the formats of other programs: meshes, point clouds, Gaussian splats."""

from dfm_lightning.exports.export import KINDS, Export, export_scene

__all__ = ["KINDS", "Export", "export_scene"]
