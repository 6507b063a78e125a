"""Import official StyleGAN2-ADA pickles (network-snapshot-*.pkl) without running anything in them."""

from pathlib import Path
from typing import Any

from dfm_lightning.checkpoints.stylegan2_networks import build_from_networks
from dfm_lightning.checkpoints.stylegan2_pickle import PersistentObject, read_networks
from dfm_lightning.errors import UserError
from dfm_lightning.networks.stylegan2.generator import Generator
from dfm_lightning.networks.stylegan2.storage import write_generator


def convert_stylegan2(source: Path, destination: Path) -> None:
    """Convert an official StyleGAN2-ADA pickle to a generator file of this project.

    It takes the averaged generator (`G_ema`) from a `network-snapshot-*.pkl` or a released model. Nothing in the
    pickle is run; one that holds anything but networks and plain values is refused.

    Args:
        source: the official pickle.
        destination: the file to write; its name ends in .safetensors.
    """
    if destination.suffix != ".safetensors":
        raise UserError(f"the file to write is called *.safetensors, got {destination}")
    generator = import_generator(source)
    write_generator(generator, destination)
    shape = generator.architecture
    size = f"{shape.resolution}×{shape.resolution}"
    print(f"{destination}: a generator of {size} pixels, codes of {shape.w_dim} numbers")


def import_generator(path: Path) -> Generator:
    """Import the averaged generator of an official pickle, in float32.

    Raises:
        UserError: the file is not such a pickle; the message names what it holds instead.
    """
    try:
        return build_from_networks(_averaged_generator(read_networks(path)))
    except UserError as error:
        raise UserError(f"{path} cannot be imported as a StyleGAN2-ADA pickle: {error}") from error


def _averaged_generator(contents: Any) -> PersistentObject:
    network = contents.get("G_ema") if isinstance(contents, dict) else None
    if not isinstance(network, PersistentObject):
        raise UserError("it holds no network G_ema")
    return network
