"""Upgrades of earlier versions' configs, in files and in checkpoints."""

from dfm_lightning.migrations.upgrade import (
    CONFIG_VERSION,
    VERSION_KEY,
    migrate,
    migrate_with_notice,
    migrated_class,
    migrated_option,
    say_once,
)

__all__ = [
    "CONFIG_VERSION",
    "VERSION_KEY",
    "migrate",
    "migrate_with_notice",
    "migrated_class",
    "migrated_option",
    "say_once",
]
