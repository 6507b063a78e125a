"""The script behind the demo's generator: reproducible, resumable, and it learns."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from drawn_faces import ATTRIBUTES, draw_faces, faces_from_noise

from dfm_lightning.networks.stylegan2.generator import Generator
from dfm_lightning.networks.stylegan2.layers import upsample_image
from dfm_lightning.networks.stylegan2.storage import find_generator, read_generator

SCRIPT = Path(__file__).parents[2] / "examples" / "fit_face_generator.py"


@pytest.fixture
def script() -> ModuleType:
    """The script as a module of its own."""
    spec = importlib.util.spec_from_file_location("fit_face_generator", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_interrupted_fit_gives_the_same_generator(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"iterations": 5, "batch": 2, "learning_rate": 1e-3, "seed": 4}
    script.fit(tmp_path / "once.safetensors", **options)
    assert not (tmp_path / "once.partial").exists()

    def killed(*arguments: object) -> None:
        raise RuntimeError("killed")

    finish = script.finish
    monkeypatch.setattr(script, "finish", killed)
    with pytest.raises(RuntimeError, match="killed"):
        script.fit(tmp_path / "twice.safetensors", **options)
    monkeypatch.setattr(script, "finish", finish)
    monkeypatch.setattr(script, "draw_noise", lambda count, what, *rest, **seed: (
        killed() if what == "step" else torch.ones(count, ATTRIBUTES)
    ))  # fmt: skip
    script.fit(tmp_path / "twice.safetensors", **options)
    once, twice = (read_generator(tmp_path / f"{name}.safetensors") for name in ("once", "twice"))
    for (name, one), other in zip(once.state_dict().items(), twice.state_dict().values(), strict=True):
        assert name == "mapping.mean_code" or torch.equal(one, other)


def test_a_grown_generator_draws_the_same_image_enlarged(script: ModuleType) -> None:
    assert script.STAGES[-1].blocks == len(script.ARCHITECTURE.channels)
    assert sum(stage.share for stage in script.STAGES) == pytest.approx(1)
    small = script.grow(None, 3)
    grown = script.grow(small, 4)
    codes = torch.randn(2, 1, 32)
    torch.testing.assert_close(grown.generator(codes), upsample_image(small.generator(codes)))
    z = torch.randn(2, ATTRIBUTES)
    torch.testing.assert_close(grown.generator.codes(z)[:, 0], small.generator.codes(z)[:, 0])


def test_the_shipped_generator_draws_faces(script: ModuleType) -> None:
    path = find_generator("drawn_faces")
    assert path.stat().st_size < 8 * 2**20
    generator: Generator = read_generator(path)
    assert generator.architecture == script.ARCHITECTURE
    z = torch.randn(32, ATTRIBUTES, generator=torch.Generator().manual_seed(9))
    truth = draw_faces(faces_from_noise(z), generator.architecture.resolution)
    with torch.no_grad():
        error = (generator(generator.codes(z)) - truth).square().mean()
    # The mean of all faces is off by the faces' variance.
    assert error < 0.12 * truth.var(dim=0).mean()
