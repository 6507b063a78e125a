"""`dfm convert to-dfm`: nothing is lost on the way, and what cannot be expressed is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from original_parity import converted
from small_original import HEADS, POSED, SMALL, checkpoint_of, random_state

from dfm_lightning.checkpoints.from_original import KEPT_KEY, convert_dfm
from dfm_lightning.checkpoints.stored_config import CONFIG_KEY
from dfm_lightning.checkpoints.to_original import CURRENT_KEY, EARLIER_KEPT_KEY, convert_to_dfm
from dfm_lightning.cli import main
from dfm_lightning.errors import UserError

LABELS, BIAS = "model.enc.y_embedder.embedding_table.weight", "model.enc.t_embedder.mlp.2.bias"


def back(checkpoint: dict[str, Any], folder: Path, **options: Any) -> dict[str, Any]:
    """The file of theirs that a checkpoint of ours becomes."""
    torch.save(checkpoint, folder / "ours.ckpt")
    convert_to_dfm(folder / "ours.ckpt", folder / "back.pt", **options)
    return torch.load(folder / "back.pt", weights_only=True)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return set(first) == set(second) and all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.mark.parametrize("sizes", [SMALL, POSED], ids=["plain", "posed"])
def test_there_and_back_every_tensor_is_the_same(sizes: Any, tmp_path: Path) -> None:
    state = random_state(sizes)
    for renderer in ("renderer", "renderer_coarse"):
        state[f"model.{renderer}.backgrd_color"] = torch.tensor([0.1, 0.2, 0.3])
    content = back(converted(checkpoint_of(state), tmp_path, heads=HEADS), tmp_path)
    assert same(content["model"], state)
    expected = {f"{prefix}{key}" for prefix in ("ema_model.", "online_model.") for key in state}
    assert set(content["ema"]) == expected
    assert all(torch.equal(value, state[key.partition(".")[2]]) for key, value in content["ema"].items())


def test_checkpoints_converted_by_an_earlier_version_are_whole_too(tmp_path: Path) -> None:
    state = random_state(SMALL)
    checkpoint = converted(checkpoint_of(state), tmp_path, heads=HEADS)
    checkpoint[EARLIER_KEPT_KEY] = checkpoint.pop(KEPT_KEY)
    assert same(back(checkpoint, tmp_path)["model"], state)


def test_a_model_trained_here_is_whole_there(tmp_path: Path) -> None:
    """A training checkpoint has no tensors of theirs to give back: what they do not use is made up."""
    first = converted(checkpoint_of(random_state(POSED)), tmp_path, heads=HEADS)
    raw = {name: value + 1 for name, value in first["state_dict"].items()}
    trained = {key: value for key, value in first.items() if key != KEPT_KEY}
    content = back({**trained, CURRENT_KEY: raw, "global_step": 5}, tmp_path)
    assert content["step"] == 5
    assert not content["model"][LABELS].any()
    for weights, expected in (("ema", first["state_dict"]), ("raw", raw)):
        convert_dfm(tmp_path / "back.pt", tmp_path / "again.ckpt", weights=weights, heads=HEADS)
        assert same(torch.load(tmp_path / "again.ckpt", weights_only=True)["state_dict"], expected)


def test_a_bias_changed_by_training_takes_the_label_into_account(tmp_path: Path) -> None:
    checkpoint = converted(checkpoint_of(random_state()), tmp_path, heads=HEADS)
    name = "denoiser.encoder.level.mlp.2.bias"
    checkpoint["state_dict"][name] = checkpoint["state_dict"][name] + 0.5
    model = back(checkpoint, tmp_path)["model"]
    torch.testing.assert_close(model[BIAS] + model[LABELS][0], checkpoint["state_dict"][name])


def test_position_embeddings_are_computed_for_the_resolution_that_is_asked_for(tmp_path: Path) -> None:
    checkpoint = converted(checkpoint_of(random_state()), tmp_path, heads=HEADS)
    positions = back(checkpoint, tmp_path, resolution=32)["model"]["model.enc.pos_embed"]
    assert positions.shape == (1, 64, 16)
    # Width 16: four sines and four cosines of the column, then of the row; frequencies 1, 1/10, 1/100, 1/1000.
    row, column = 3, 5
    frequencies = torch.tensor([1, 0.1, 0.01, 0.001])
    expected = torch.cat(
        [part for at in (column, row) for part in ((at * frequencies).sin(), (at * frequencies).cos())]
    )
    torch.testing.assert_close(positions[0, row * 8 + column], expected)


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("forward_model", "corner_aligned", False, "model.forward_model.corner_aligned is False"),
        ("denoiser", "project_behind", False, "model.denoiser.project_behind is False"),
        ("denoiser", "mlp_blocks_per_view", 2, "model.denoiser.mlp_blocks_per_view is 2"),
        ("denoiser", "estimate_reduction", 2, "model.denoiser.estimate_reduction is 2"),
        ("process", "levels", 500, "model.process.levels is 500, the original code has 1000 only"),
    ],
)
def test_settings_that_their_code_lacks_are_refused_by_name(
    part: str, name: str, value: Any, message: str, tmp_path: Path
) -> None:
    checkpoint = converted(checkpoint_of(random_state()), tmp_path, heads=HEADS)
    checkpoint[CONFIG_KEY]["model"]["init_args"][part]["init_args"][name] = value
    with pytest.raises(UserError, match=message):
        back(checkpoint, tmp_path)
    assert not (tmp_path / "back.pt").exists()


def test_other_models_and_incomplete_checkpoints_are_refused(tmp_path: Path) -> None:
    checkpoint = converted(checkpoint_of(random_state()), tmp_path, heads=HEADS)
    with pytest.raises(UserError, match=r"config"):
        back({"state_dict": checkpoint["state_dict"]}, tmp_path)
    with pytest.raises(UserError, match="state_dict"):
        back({}, tmp_path)
    state = {name: value for name, value in checkpoint["state_dict"].items() if "coarse_mlp.output" not in name}
    with pytest.raises(UserError, match=r"denoiser\.coarse_mlp\.output\.weight"):
        back({**checkpoint, "state_dict": state}, tmp_path)
    with pytest.raises(UserError, match=r"--resolution.*\b30\b"):
        back(checkpoint, tmp_path, resolution=30)
    checkpoint[CONFIG_KEY]["model"]["init_args"]["denoiser"]["class_path"] = "mine.Denoiser"
    with pytest.raises(UserError, match=r"model\.denoiser.*mine\.Denoiser.*PixelNeRFDenoiser"):
        back(checkpoint, tmp_path)


def test_the_command_names_sizes_that_their_code_writes_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    converted(checkpoint_of(random_state()), tmp_path, heads=HEADS)
    capsys.readouterr()
    assert main(["convert", "to-dfm", str(tmp_path / "ours.ckpt"), str(tmp_path / "back.pt")]) == 0
    out = capsys.readouterr().out
    assert "16×16 pixels" in out
    assert all(part in out for part in ("model.denoiser.encoder.width", "16", "1152"))


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path) -> None:
    checkpoint = converted(checkpoint_of(random_state()), tmp_path, heads=HEADS)
    for state in ("state_dict", CURRENT_KEY):
        weights = {name: value.clone() for name, value in checkpoint["state_dict"].items()}
        weights["denoiser.coarse_mlp.output.weight"][0, 0] = float("inf")
        with pytest.raises(UserError, match=r"'denoiser\.coarse_mlp\.output\.weight'"):
            back({**checkpoint, state: weights}, tmp_path)
    theirs = random_state()
    theirs[BIAS][0] = float("nan")
    with pytest.raises(UserError, match=r"t_embedder\.mlp\.2\.bias"):
        converted(checkpoint_of(theirs), tmp_path, heads=HEADS)
