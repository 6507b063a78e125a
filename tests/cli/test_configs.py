"""Where configs are found, and which settings win."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import dfm_lightning.cli.configs
from dfm_lightning.cli import main
from dfm_lightning.cli.configs import find_config, name_of_run, shipped_configs, shipped_folder, with_config_paths
from dfm_lightning.errors import UserError

Settings = Callable[..., dict[str, Any]]


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped configs."""
    configs = tmp_path / "shipped"
    (configs / "hardware").mkdir(parents=True)
    for name in ("co3d", "co3d_demo", "hardware/one_gpu"):
        (configs / f"{name}.yaml").write_text("seed_everything: 3\n")
    monkeypatch.setattr(dfm_lightning.cli.configs, "shipped_folder", lambda: configs)
    return configs


@pytest.mark.parametrize("name", ["co3d", "co3d.yaml", "hardware/one_gpu"])
def test_shipped_configs_are_found_by_name(shipped: Path, name: str) -> None:
    assert find_config(name) == shipped / f"{name.removesuffix('.yaml')}.yaml"


def test_a_file_of_that_name_comes_first(shipped: Path, folder: Path) -> None:
    (folder / "co3d.yaml").touch()
    assert find_config("co3d.yaml") == Path("co3d.yaml")


def test_an_unknown_config_lists_the_shipped_ones(shipped: Path) -> None:
    with pytest.raises(UserError, match=r"'co3d_dem'.* co3d, co3d_demo, hardware/one_gpu\. .*'co3d_demo'\?"):
        find_config("co3d_dem")


def test_every_spelling_of_the_option_is_understood(shipped: Path) -> None:
    given = ["fit", "-c", "co3d", "--config", "co3d_demo.yaml", "--config=co3d", "--model.x", "co3d"]
    co3d, demo = str(shipped / "co3d.yaml"), str(shipped / "co3d_demo.yaml")
    assert with_config_paths(given) == [
        *("fit", "-c", co3d, "--config", demo, f"--config={co3d}", "--model.x", "co3d")
    ]


def test_the_run_is_called_after_its_first_config() -> None:
    assert name_of_run(["fit", "-c", "/a/co3d.yaml", "-c", "b.yaml"]) == "co3d"
    assert name_of_run(["fit", "--config=b.yaml"]) == "b"
    assert name_of_run(["fit"]) == "dfm"


def test_the_checkout_has_its_configs_at_the_root() -> None:
    assert shipped_folder() == Path(__file__).parents[2] / "configs"


OVERLAYS = {
    "co3d_demo_deterministic": "co3d_demo",
    "co3d_demo_distilled": "co3d_demo",
    "co3d_demo_finetune": "co3d_demo",
    "co3d_demo_results": "co3d_demo",
    "pixelnerf_co3d": "co3d",
    "realestate10k_finetune_128": "realestate10k",
    "sparsefusion_demo_distil": "sparsefusion_demo",
    "sparsefusion_distil": "sparsefusion_co3d",
    "vimeo90k_demo_regression": "vimeo90k_demo",
    **{name: Path(name).name for name in shipped_configs() if name.startswith("hardware/")},
}
"""Configs that are complete only together with another, by that other's name."""


@pytest.mark.parametrize("name", shipped_configs())
def test_shipped_configs_are_complete(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["--config", OVERLAYS[name]] if name in OVERLAYS else []
    assert main(["fit", *base, "--config", name, "--print_config"]) == 0
    assert "class_path" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["co3d_demo_deterministic", "pixelnerf_co3d"])
def test_the_deterministic_baseline_keeps_the_settings_of_its_model(name: str, settings: Settings) -> None:
    base = settings("fit", "-c", OVERLAYS[name])["model"]
    laid = settings("fit", "-c", OVERLAYS[name], "-c", name)["model"]
    assert laid["class_path"] == "dfm_lightning.tasks.DeterministicInverseGraphics"
    assert laid["init_args"] == {**base["init_args"], "samples": 1}


def test_options_win_over_configs_and_configs_over_defaults(settings: Settings) -> None:
    plain = settings("fit", "--config", "toy.yaml")
    assert plain["model"]["init_args"]["samples"] == 4  # a default
    assert plain["model"]["init_args"]["denoiser"]["init_args"]["width"] == 6  # of the config
    chosen = settings("fit", "--config", "toy.yaml", "--model.denoiser.width", "7", "--model.samples", "2")
    assert chosen["model"]["init_args"]["denoiser"]["init_args"]["width"] == 7
    assert chosen["model"]["init_args"]["samples"] == 2


def test_later_configs_win(folder: Path, settings: Settings) -> None:
    (folder / "small.yaml").write_text("data: {init_args: {scenes: 5}}\nmodel: {init_args: {samples: 1}}\n")
    merged = settings("fit", "-c", "toy.yaml", "-c", "small.yaml")
    assert merged["data"]["init_args"]["scenes"] == 5
    assert merged["data"]["init_args"]["root"] == "data"
    assert merged["model"]["init_args"]["samples"] == 1
    assert merged["model"]["class_path"] == "toy_problem.Task"


def test_short_forms_reach_into_parts(settings: Settings) -> None:
    options = ["--model.sampler.steps", "10", "--data.root", "x", "--model.optimizer.learning_rate", "1"]
    chosen = settings("fit", "--config", "toy.yaml", *options)
    assert chosen["model"]["init_args"]["sampler"]["init_args"]["steps"] == 10
    assert chosen["data"]["init_args"]["root"] == "x"
    assert chosen["model"]["init_args"]["optimizer"]["init_args"]["learning_rate"] == 1


def test_short_forms_reach_into_parts_that_the_config_leaves_to_the_default(
    folder: Path, settings: Settings
) -> None:
    lines = (folder / "toy.yaml").read_text().splitlines()
    (folder / "toy.yaml").write_text("\n".join(line for line in lines if "sampler:" not in line))
    chosen = settings("fit", "--config", "toy.yaml", "--model.sampler.steps", "10", "--model.process.levels", "9")
    assert chosen["model"]["init_args"]["sampler"]["init_args"]["steps"] == 10
    assert chosen["model"]["init_args"]["process"]["init_args"]["levels"] == 9


def test_what_is_printed_can_be_used(folder: Path, settings: Settings) -> None:
    printed = settings("fit", "--config", "toy.yaml", "--model.samples", "3")
    (folder / "printed.yaml").write_text(yaml.safe_dump(printed))
    assert settings("fit", "--config", "printed.yaml") == printed


def test_help_explains_every_argument(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sys.path.insert(0, str(folder))
    assert main(["fit", "--model.help", "toy_problem.Task"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "probability that a training batch has its context dropped" in text
    assert "(type: float, default: 0.0)" in text
    assert main(["fit", "--help"]) == 0
    text = capsys.readouterr().out
    assert "shipped config" in text
    assert "--ckpt_path" in text
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in ("fit", "validate", "test", "predict"))


@pytest.mark.slow
def test_shell_completion_knows_commands_and_settings(folder: Path) -> None:
    script = folder / "completion.sh"
    with script.open("w") as file:
        subprocess.run(
            [sys.executable, "-m", "dfm_lightning", "--print_completion", "shtab-bash"], stdout=file, check=True
        )
    assert script.stat().st_size < 3e6
    ask = f'source {script}; COMP_WORDS=(dfm fit --trainer.max_st); COMP_CWORD=2; _shtab_dfm; echo "$COMPREPLY"'
    answer = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["--trainer.max_steps"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("seed_everything: 3".encode("utf-16"), "is UTF-16"),
        ("seed_everything: 3".encode("utf-32"), "is UTF-32"),
        ("seed_everything: 3".encode("utf-16-le"), "zero bytes"),
        ("seed_everything: 3\n# Größe".encode("latin-1"), "line 2 holds the byte 0xf6"),
    ],
)
@pytest.mark.parametrize("options", [["-c"], ["--config="], ["--data"], ["--data="]])
def test_other_encodings_are_refused_by_the_files_name(
    folder: Path, capfd: pytest.CaptureFixture[str], content: bytes, said: str, options: list[str]
) -> None:
    (folder / "mine.yaml").write_bytes(content)
    arguments = [options[0] + "mine.yaml"] if options[0].endswith("=") else [*options, "mine.yaml"]
    assert main(["fit", "--config", "toy.yaml", *arguments]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "mine.yaml" in lines[0]
    assert said in lines[0]
    assert "save it as UTF-8" in lines[0]


def test_a_byte_order_mark_of_utf_8_is_no_matter(folder: Path, settings: Callable[..., dict[str, Any]]) -> None:
    (folder / "mine.yaml").write_bytes("seed_everything: 3".encode("utf-8-sig"))
    assert settings("fit", "-c", "toy.yaml", "-c", "mine.yaml")["seed_everything"] == 3
