"""The generator's file format: weights in safetensors, with the architecture beside them."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dfm_lightning.errors import UserError
from dfm_lightning.files import whole_file
from dfm_lightning.networks.stylegan2.architecture import Architecture
from dfm_lightning.networks.stylegan2.generator import Generator

FORMAT = "dfm-lightning stylegan2 1"
SHIPPED = Path(__file__).parent / "shipped"


def write_generator(generator: Generator, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write a generator's weights, rounded to `dtype`, and its architecture."""
    weights = {name: tensor.detach().to(dtype).contiguous() for name, tensor in generator.state_dict().items()}
    metadata = {"format": FORMAT, "architecture": json.dumps(generator.architecture.to_dict())}
    with whole_file(path) as aside:
        save_file(weights, aside, metadata)


def read_generator(path: Path) -> Generator:
    """Read a generator written by `write_generator`, in float32 and eval mode, on the CPU.

    Raises:
        UserError: the file is missing or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(_advice(path, str(error))) from error
    if metadata.get("format") != FORMAT:
        raise UserError(_advice(path, f"its format is {metadata.get('format')!r}, not {FORMAT!r}"))
    try:
        return build_generator(Architecture.from_dict(json.loads(metadata["architecture"])), weights).eval()
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(_advice(path, f"it cannot be used ({error})")) from error


def find_generator(name: str) -> Path:
    """Find the file of a generator given by its path, or by the name of a shipped one.

    Raises:
        UserError: there is none.
    """
    for path in (Path(name), SHIPPED / f"{name}.safetensors"):
        if path.is_file():
            return path
    names = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.safetensors")))
    raise UserError(_advice(Path(name), f"there is neither such a file nor a shipped generator ({names})"))


def build_generator(architecture: Architecture, weights: dict[str, Tensor]) -> Generator:
    """Build a generator around weights, which it keeps, without drawing or allocating any.

    Raises:
        ValueError: the weights do not fit the architecture, or are not finite.
    """
    generator = _shell(architecture)
    shapes = _shapes(generator)
    for name in sorted(shapes.keys() ^ weights.keys()):
        raise ValueError(f"{name} is missing" if name in shapes else f"{name} is not part of it")
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise ValueError(f"{name} has shape {tuple(weights[name].shape)}, expected {shape}")
        if not weights[name].isfinite().all():
            raise ValueError(f"{name} holds numbers that are not finite")
    generator.load_state_dict(weights, assign=True)
    return generator


def expected_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a generator."""
    return _shapes(_shell(architecture))


def _shapes(generator: Generator) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in generator.state_dict().items()}


def _shell(architecture: Architecture) -> Generator:
    """Build a generator without memory for its weights."""
    with torch.device("meta"):
        return Generator(architecture)


def _advice(path: Path, reason: str) -> str:
    return (
        f"expected a StyleGAN2 generator in {path}, but {reason}. "
        "Official pickles are converted by: dfm convert stylegan2 IN.pkl OUT.safetensors"
    )


def generator_hash(generator: Generator) -> str:
    """Compute an identifier of this architecture and these weights: 64 hexadecimal digits (SHA-256)."""
    digest = hashlib.sha256(json.dumps(generator.architecture.to_dict()).encode())
    for name, tensor in sorted(generator.state_dict().items()):
        digest.update(name.encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()
