"""Checks every array shape in the signatures of the project while the tests run."""

from jaxtyping import install_import_hook

install_import_hook(["dfm_lightning", "datamodules"], "beartype.beartype")
