"""`dfm convert dfm`: what is recognised, mapped, left out and refused."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from original_parity import build_task, converted
from small_original import HEADS, PIXELNERF, POSED, SMALL, checkpoint_of, random_state
from torch import Tensor

from dfm_lightning.checkpoints.from_original import convert_dfm
from dfm_lightning.checkpoints.original_layout import layout, recognise
from dfm_lightning.checkpoints.stored_config import CONFIG_KEY
from dfm_lightning.cli import main
from dfm_lightning.errors import UserError

KEYS = Path(__file__).parents[1] / "data" / "original_dfm_keys.json"


@pytest.mark.parametrize(("name", "resolution", "posed"), [("re10k", 64, False), ("co3d", 128, True)])
def test_the_layout_is_that_of_the_original_models(name: str, resolution: int, posed: bool) -> None:
    shapes = {key: tuple(shape) for key, shape in json.loads(KEYS.read_text())[name].items()}
    sizes = recognise({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
    expected = layout(sizes)
    assert {**expected.required, **expected.optional} == shapes
    assert (sizes.resolution, sizes.absolute_pose) == (resolution, posed)
    assert (sizes.width, sizes.depth, sizes.mlp_width, sizes.mlp_blocks, sizes.octaves) == (1152, 28, 512, 5, 6)


def test_every_size_is_recognised() -> None:
    for sizes in (SMALL, POSED, PIXELNERF):
        assert recognise(random_state(sizes)) == sizes


@pytest.mark.parametrize("sizes", [SMALL, POSED, PIXELNERF], ids=["plain", "posed", "pixelNeRF"])
def test_a_converted_state_is_whole_and_stores_its_settings(sizes: Any, tmp_path: Path) -> None:
    checkpoint = converted(checkpoint_of(random_state(sizes)), tmp_path, heads=HEADS)
    task = build_task(checkpoint, 0.5, 4.0, (4, 4, 4))  # loads strictly
    encoder = task.denoiser.encoder
    assert encoder.absolute_pose is sizes.absolute_pose
    assert encoder.core.blocks[0].attn.num_heads == HEADS
    assert task.forward_model.corner_aligned
    assert task.denoiser.estimate_renderer.corner_aligned
    assert task.denoiser.project_behind


def test_averaged_weights_are_taken_unless_raw_ones_are_asked_for(tmp_path: Path) -> None:
    averaged, raw = random_state(seed=1), random_state(seed=2)
    content = checkpoint_of(averaged, raw)
    key, name = "model.enc.conv1.weight", "denoiser.encoder.context_stem.weight"
    assert torch.equal(converted(content, tmp_path, heads=HEADS)["state_dict"][name], averaged[key])
    assert torch.equal(converted(content, tmp_path, heads=HEADS, weights="raw")["state_dict"][name], raw[key])


def test_the_constant_label_goes_into_the_bias_of_the_level(tmp_path: Path) -> None:
    state = random_state()
    ours = converted(checkpoint_of(state), tmp_path, heads=HEADS)["state_dict"]
    folded = state["model.enc.t_embedder.mlp.2.bias"] + state["model.enc.y_embedder.embedding_table.weight"][0]
    assert torch.equal(ours["denoiser.encoder.level.mlp.2.bias"], folded)


def test_the_background_becomes_a_setting(tmp_path: Path) -> None:
    state = random_state()
    state["model.renderer.backgrd_color"] = torch.tensor([1.0, 0.5, 0.25])
    with pytest.raises(UserError, match="renderer_coarse"):  # two of them
        converted(checkpoint_of(state), tmp_path, heads=HEADS)
    state["model.renderer_coarse.backgrd_color"] = torch.tensor([1.0, 0.5, 0.25])
    model = converted(checkpoint_of(state), tmp_path, heads=HEADS)[CONFIG_KEY]["model"]["init_args"]
    assert model["forward_model"]["init_args"]["background"] == [1.0, 0.5, 0.25]
    estimate = model["denoiser"]["init_args"]["estimate_renderer"]["init_args"]
    assert estimate["background"] is None


def test_what_is_left_out_is_told_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = random_state()
    state["perceptual_loss.lin0.model.1.weight"] = torch.zeros(1, 64, 1, 1)
    state["betas"] = state["betas"] + 0.5
    converted(checkpoint_of(state), tmp_path, heads=HEADS)
    lines = capsys.readouterr().out.splitlines()
    assert "DFM; 16×16 pixels, without absolute poses" in lines[0]
    assert any(
        "perceptual_loss.lin0.model.1.weight: the perceptual loss reads its weights" in line for line in lines
    )
    assert any("opt" in line and "ema: online_model.*" in line for line in lines)
    assert any("model.pixelNeRF_joint_coarse.mlp_fine." in line and "no fine pass" in line for line in lines)
    assert "  note: betas differs from what is computed here by up to 0.5" in lines


# --- the deterministic stage ---------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["lin_out_feats", "lin_out"])
def test_a_pixelnerf_starts_both_fields_with_its_mlps_and_no_features(layer: Any, tmp_path: Path) -> None:
    state = random_state(PIXELNERF)
    ours = converted(checkpoint_of(state), tmp_path, heads=HEADS, output_layer=layer)["state_dict"]
    for name, theirs in (("coarse", "mlp"), ("deterministic", "mlp"), ("fine", "mlp_fine")):
        mlp = f"model.pixelNeRF.{theirs}."
        first = torch.cat(
            [ours[f"denoiser.{name}_mlp.{half}_in.weight"] for half in ("position", "feature")], dim=1
        )
        assert torch.equal(first, state[f"{mlp}lin_in.weight"])
        assert torch.equal(ours[f"denoiser.{name}_mlp.blocks.4.fc1.weight"], state[f"{mlp}blocks.4.fc_1.weight"])
        for end in ("weight", "bias"):
            output = ours[f"denoiser.{name}_mlp.output.{end}"]
            assert torch.equal(output[:4], state[f"{mlp}{layer}.{end}"])
            assert output.shape[0] == 4 + 64
            assert not output[4:].any()
    stem = ours["denoiser.encoder.target_stem.weight"]
    assert stem.shape == (4, 71, 7, 7)
    # As torch begins a convolution: uniform up to 1/√(inputs).
    assert stem.abs().max().item() == pytest.approx((71 * 49) ** -0.5, rel=0.01)


# --- refusals ------------------------------------------------------------------------------------------------


def without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["ema"].pop(f"ema_model.{key}")


def changed(key: str, change: Callable[[Tensor], Any]) -> Callable[[dict[str, Any]], None]:
    def apply(content: dict[str, Any]) -> None:
        content["ema"][f"ema_model.{key}"] = change(content["ema"][f"ema_model.{key}"])

    return apply


def not_finite(value: float) -> Callable[[Tensor], Tensor]:
    def apply(tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[-1] = value
        return tensor

    return apply


PROJ, MLP = "model.enc.x_embedder.proj.weight", "model.pixelNeRF_joint.mlp_fine."


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("model.enc.conv1.weight"), "holds no ema: ema_model.model.enc.conv1.weight"),
        (without(f"{MLP}lin_in.bias"), f"holds no ema: ema_model.{MLP}lin_in.bias"),
        (without("model.enc.pos_embed"), "model.enc.pos_embed is missing"),
        (without("betas"), "holds no ema: ema_model.betas"),
        (changed(PROJ, lambda t: t[:-1]), f"ema_model.{PROJ} has shape (15, 4, 2, 2), expected (16, 4, 2, 2)"),
        (changed(f"{MLP}lin_in.weight", lambda t: t.T), f"ema_model.{MLP}lin_in.weight has shape (21, 8)"),
        (
            changed("model.enc.pos_embed", lambda t: t[:, :15]),
            "ema_model.model.enc.pos_embed has shape (1, 15, 16)",
        ),
        (changed(f"{MLP}lin_out.bias", not_finite(float("nan"))), f"{MLP}lin_out.bias holds numbers that are not"),
        (changed("betas", not_finite(float("inf"))), "ema_model.betas holds numbers that are not finite"),
        (changed(PROJ, lambda t: t.long()), f"ema_model.{PROJ} is not a tensor of real numbers (torch.int64)"),
        (changed(PROJ, lambda t: "text"), f"ema_model.{PROJ} is not a tensor of real numbers (str)"),
        (lambda c: c["ema"].update({"ema_model.model.enc.extra": torch.zeros(2)}), "ema_model.model.enc.extra"),
        (lambda c: c["ema"].update({"other": torch.zeros(2)}), "unknown tensor ema: other"),
        (
            lambda c: c["model"].update({"model.enc.extra": torch.zeros(2)}),
            "unknown tensor model: model.enc.extra",
        ),
        (lambda c: c["model"].pop(PROJ), f"holds no model: {PROJ}"),
        (lambda c: c.update(surprise=1), "unknown entry surprise"),
        (lambda c: c.pop("ema"), "it holds no state ema: ema_model.*; it may with --weights raw"),
        (lambda c: c.update(ema=[1]), "its entry ema is not a state"),
        (lambda c: c["ema"].clear(), "it holds no state ema: ema_model.*"),
    ],
)
def test_what_cannot_be_explained_is_refused_by_name(
    damage: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path
) -> None:
    content = checkpoint_of(random_state())
    damage(content)
    with pytest.raises(UserError) as refusal:
        converted(content, tmp_path, heads=HEADS)
    assert message in str(refusal.value)
    assert "theirs.pt" in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.pt"]


class Code:
    """Runs a command when it is unpickled the ordinary way."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


def test_code_is_refused_by_name_and_not_run(tmp_path: Path) -> None:
    content = {**checkpoint_of(random_state()), "version": Code(f"touch {tmp_path / 'ran'}")}
    with pytest.raises(UserError, match=r"theirs\.pt.*\w+\.system"):
        converted(content, tmp_path, heads=HEADS)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["text", "empty", "cut", "zip", "list"])
def test_other_files_are_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme", "nothing")
    elif kind == "list":
        torch.save([1, 2], path)
    else:
        torch.save(checkpoint_of(random_state()), path)
        path.write_bytes({"text": b"hello", "empty": b"", "cut": path.read_bytes()[:2000]}[kind])
    with pytest.raises(UserError, match=r"file\.pt"):
        convert_dfm(path, tmp_path / "ours.ckpt")


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.pixelNeRF_joint\.\*.*model\.pixelNeRF\.\*"):
        converted(checkpoint_of({"layer.weight": torch.zeros(2)}), tmp_path)


def test_heads_are_asked_for_where_no_name_tells_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"width 16.*--heads"):
        converted(checkpoint_of(random_state()), tmp_path)
    with pytest.raises(UserError, match=r"--heads.*\b16\b.*\b3\b"):
        converted(checkpoint_of(random_state()), tmp_path, heads=3)


def test_the_command_says_what_is_wrong_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "dfm", "absent.pt", "ours.ckpt"]) == 2
    torch.save(checkpoint_of(random_state()), "theirs.pt")
    assert main(["convert", "dfm", "theirs.pt", "./theirs.pt", "--heads", "2"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "dfm: absent.pt: no such file or directory"
    assert lines[1] == "dfm: theirs.pt is the file to convert: give another name for the result"
    assert main(["convert", "dfm", "theirs.pt", "ours.ckpt", "--heads", "2", "--weights", "raw"]) == 0
    assert "raw weights" in capsys.readouterr().out
