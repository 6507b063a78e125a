"""Exports as `dfm predict` writes them, and as the command line asks for them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import trimesh
from ball_scenes import BallDenoiser, renderer, request

from dfm_lightning import api
from dfm_lightning.baking import load_scene, render_scene
from dfm_lightning.cli import main
from dfm_lightning.cli.options import export_kinds
from dfm_lightning.errors import UserError
from dfm_lightning.tasks import InverseGraphics


def test_a_writer_exports_what_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = InverseGraphics(BallDenoiser(), renderer(), samples=1, autoregressive_steps=1).eval()
    (sample,) = model.predictions(request(["ball"], frames=6, size=16))
    (folder,) = api.export([sample], tmp_path, export=["scene", "mesh"], export_resolution=64)
    fidelity = json.loads((folder / "export.json").read_text())["psnr"]
    assert f"{fidelity} dB" in capsys.readouterr().out
    again = render_scene(load_scene(folder / "scene.safetensors"), sample.params)
    true = -10 * float(((again - sample.observation) / 2).square().mean().log10())
    assert true == pytest.approx(fidelity, abs=0.2)
    # A ball with a sharp edge, which cells of 0.1 blur.
    assert fidelity > 18
    ball: Any = trimesh.load(folder / "mesh.glb", force="mesh")
    assert ball.bounding_box.extents == pytest.approx([2, 2, 2], abs=0.2)
    assert not (folder / "splats.ply").exists()


def test_the_command_line_names_formats() -> None:
    assert export_kinds("splats, mesh") == ["mesh", "splats"]
    with pytest.raises(UserError, match="obj"):
        export_kinds("mesh,obj")


def test_only_predict_exports(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--config", "co3d_demo.yaml", "--export", "mesh"]) == 2
    assert "--export" in capsys.readouterr().err
