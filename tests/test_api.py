"""From Python: models from checkpoints and back, samples drawn, observed and written."""

import ast
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ball_scenes import BallDenoiser, batch, renderer, request
from lightning.pytorch import Trainer, seed_everything
from PIL import Image
from torch.utils.data import DataLoader

import dfm_lightning
from dfm_lightning import Cameras, InverseGraphics, Moment, Request, UserError, Views, export, load, save
from dfm_lightning.callbacks import TensorWriter
from dfm_lightning.cli import main
from dfm_lightning.diffusion import DDIM
from dfm_lightning.randomness import user_seed, with_seed
from dfm_lightning.types import map_tensors

OLD = Path(__file__).parent / "data" / "version_0_1"
FAST = {"sampler.steps": 3, "guidance_scale": 1.0}


def stored_request(name: str) -> Request:
    """The request that lies beside an old checkpoint."""
    stored = torch.load(OLD / f"{name}_prediction.pt", weights_only=True)
    kind: Any = {"co3d_demo": lambda p: Cameras(**p), "vimeo90k_demo": lambda p: Moment(**p)}.get(
        name, lambda p: p
    )
    context = Views(stored["context"]["observation"], kind(stored["context"]["params"]))
    return Request(context, kind(stored["params"]), stored["key"])


def scenes() -> InverseGraphics:
    return InverseGraphics(BallDenoiser(), renderer(), sampler=DDIM(2), samples=2, autoregressive_steps=1)


# --- the package ----------------------------------------------------------------------------------------------


def test_every_exported_name_exists_and_is_seen_by_type_checkers() -> None:
    for name in dfm_lightning.__all__:
        assert getattr(dfm_lightning, name) is not None
        assert name in dir(dfm_lightning)
    tree = ast.parse(Path(dfm_lightning.__file__).read_text(encoding="utf-8"))
    typed = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed - {"TYPE_CHECKING", "Any"} == {*dfm_lightning.__all__} - {"__version__"}
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = dfm_lightning.no_such_name
    for package in ("dfm_lightning", "datamodules"):
        assert (Path(dfm_lightning.__file__).parents[1] / package / "py.typed").exists()


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, dfm_lightning; sys.exit('torch' in sys.modules)"
    root = Path(dfm_lightning.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_a_source_tree_that_is_not_installed_works(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.metadata.Distribution.from_name

    def from_name(name: str) -> Any:
        if name.replace("_", "-") == "dfm-lightning":
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata.Distribution, "from_name", from_name)
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("dfm-lightning")
    assert main(["--version"]) == 0
    assert dfm_lightning.__version__ in capsys.readouterr().out
    assert main(["fit", "--config", "co3d_demo", "--print_config"]) == 0
    assert f"dfm-lightning=={dfm_lightning.__version__}" in capsys.readouterr().out


# --- loading --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["co3d_demo", "vimeo90k_demo", "ffhq_gan_demo"])
def test_an_old_checkpoint_is_loaded_drawn_from_and_exported(name: str, tmp_path: Path) -> None:
    stored = torch.load(OLD / f"{name}_prediction.pt", weights_only=True)
    settings = {**FAST, **({"autoregressive_steps": 1} if name == "co3d_demo" else {})}
    if name == "vimeo90k_demo":
        del settings["guidance_scale"]
    model = load(OLD / f"{name}.ckpt", settings)
    assert not any(part.training for part in model.modules())
    wanted = stored_request(name)
    (drawn,) = model.draw(wanted.context, wanted.params, seed=0, keys=wanted.key)
    torch.testing.assert_close(drawn.observation, stored["observation"], atol=2e-4, rtol=0)
    torch.testing.assert_close(model.observe(drawn.signal, wanted.params)[0], drawn.observation)
    (folder,) = export([drawn], tmp_path)
    assert folder.name == "sample_00"
    expected = {"co3d_demo": "video.mp4", "vimeo90k_demo": "flow.flo", "ffhq_gan_demo": "code.npz"}[name]
    assert (folder / expected).stat().st_size > 0

    save(model, tmp_path / "small.ckpt")
    again = load(tmp_path / "small.ckpt")
    assert again.sampler.steps == 3
    (same,) = again.draw(wanted.context, wanted.params, seed=0, keys=wanted.key)
    assert torch.equal(same.observation, drawn.observation)


def test_what_a_checkpoint_lacks_is_named(tmp_path: Path) -> None:
    model = scenes()
    save(model, tmp_path / "own.ckpt")
    with pytest.raises(UserError, match=r"own\.ckpt .*model=my_model"):
        load(tmp_path / "own.ckpt")
    other = scenes()
    torch.nn.init.zeros_(other.denoiser.bias)
    assert load(tmp_path / "own.ckpt", model=other) is other
    assert torch.equal(other.denoiser.bias, model.denoiser.bias)
    with pytest.raises(UserError, match=r"no_such\.ckpt"):
        load(tmp_path / "no_such.ckpt")
    checkpoint = OLD / "vimeo90k_demo.ckpt"
    with pytest.raises(UserError, match=r"samplers\.steps"):
        load(checkpoint, {"samplers.steps": 2})
    with pytest.raises(UserError, match="sample_count"):
        load(checkpoint, {"sample_count": 2})
    with pytest.raises(UserError, match="samples"):
        load(checkpoint, {"samples": 0})
    with pytest.raises(UserError, match="checkpoint"):
        load(checkpoint, model=scenes())


def test_a_config_names_models_and_nothing_else(tmp_path: Path) -> None:
    content = torch.load(OLD / "vimeo90k_demo.ckpt", weights_only=True)
    content["dfm_config"]["model"] = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "hacked"]}}
    torch.save(content, tmp_path / "hostile.ckpt")
    with pytest.raises(UserError, match=r"subprocess\.Popen"):
        load(tmp_path / "hostile.ckpt")
    assert not Path("hacked").exists()


# --- drawing --------------------------------------------------------------------------------------------------


def test_draw_gives_what_predict_gives_with_the_same_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    asked, model = request(["a", "b"], 3), scenes()
    drawn = model.draw(asked.context, asked.params, samples=3, seed=5, keys=asked.key)
    assert user_seed() == 3
    assert [(p.key, p.sample) for p in drawn] == [(key, sample) for key in "ab" for sample in range(3)]
    seed_everything(5, verbose=False)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    (expected,) = trainer.predict(model, DataLoader([asked], batch_size=None))
    own = [p for p in drawn if p.sample < 2]
    for draw, other in zip(own, expected, strict=True):
        assert torch.equal(draw.observation, other.observation)
    other_seed = model.draw(asked.context, asked.params, seed=6, keys=asked.key)
    assert not torch.equal(other_seed[0].observation, drawn[0].observation)


def test_draw_takes_a_scene_as_a_data_set_gives_it_and_minds_no_plan() -> None:
    asked, model = request(["a"], 3), scenes().train()
    model.plan.leave_out(lambda key, sample: True)
    one = map_tensors(lambda tensor: tensor[0], (asked.context, asked.params))
    (first,) = model.draw(*one, seed=0)
    (second,) = model.draw(asked.context, asked.params, seed=0)
    assert first.key == "scene0"
    assert torch.equal(first.observation, second.observation)
    assert model.training
    with pytest.raises(UserError, match="1 key"):
        model.draw(batch(["a", "b"]).context, asked.params, keys=["a"])


def test_a_seed_counts_inside_its_block_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    with with_seed(2):
        with with_seed(None):
            assert user_seed() == 2
        with with_seed(3):
            assert user_seed() == 3
        assert user_seed() == 2
    assert user_seed() == 1


def test_export_takes_an_iterator_and_a_writer(tmp_path: Path) -> None:
    asked, model = request(["a/b"], 3), scenes()
    folders = export(model.predictions(asked), tmp_path, TensorWriter)
    assert [folder.name for folder in folders] == ["sample_00", "sample_01"]
    assert folders[0].parent.parent == tmp_path
    with np.load(folders[1] / "sample.npz") as arrays:
        assert arrays["observation"].shape == (3, 3, 8, 8)


# --- the documentation ----------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[1]


def code_of(path: Path) -> list[str]:
    """The Python blocks of a page, or the cells of a notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        return ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    return [block.split("```")[0] for block in text.split("```python\n")[1:]]


def run(path: Path) -> dict[str, Any]:
    """Run the code of a page; the names it leaves."""
    names: dict[str, Any] = {}
    for block in code_of(path):
        exec(compile(block, str(path), "exec"), names)
    return names


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    return tmp_path


@pytest.mark.slow
def test_the_page_on_python_runs(elsewhere: Path) -> None:
    shutil.copy(OLD / "co3d_demo.ckpt", elsewhere / "last.ckpt")
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(elsewhere / "photo.jpg")
    names = run(ROOT / "docs" / "python.md")
    assert names["samples"][1].observation.shape == (4, 3, 16, 16)
    torch.testing.assert_close(names["again"][0], names["samples"][0].observation)
    assert [(folder / "video.mp4").exists() for folder in names["folders"]] == [True, True]
    assert load("model.ckpt").sampler.steps == 4
    assert len(names["drawn"]) == 3


@pytest.mark.slow
def test_the_notebook_runs(elsewhere: Path) -> None:
    folder = ROOT / "examples" / "my_problem"
    notebook = json.loads((folder / "my_problem.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    assert not any(cell.get("outputs") for cell in notebook["cells"]), "kept without outputs"
    cells = [cell.replace("STEPS = 1500", "STEPS = 10") for cell in code_of(folder / "my_problem.ipynb")]
    checks = ["assert places.shape == (8, 3)", "assert scores[0]['test/rmse_mean'] > 0"]
    (elsewhere / "cells.py").write_text("\n\n".join([*cells, *checks]), encoding="utf-8")
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]), "MPLBACKEND": "Agg"}
    subprocess.run([sys.executable, "cells.py"], check=True, env={**os.environ, **paths})
    assert len(list(elsewhere.glob("samples/scene0/*/sample.npz"))) == 8
