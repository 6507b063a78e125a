"""Wrong input ends with one line and status 2; an interruption with status 130; a defect keeps its traceback."""

import errno
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dfm_lightning.cli import main
from dfm_lightning.cli.messages import one_line, readable

TOY = ("fit", "--config", "toy.yaml")


def replaced(folder: Path, old: str, new: str) -> None:
    text = (folder / "toy.yaml").read_text()
    assert old in text
    (folder / "toy.yaml").write_text(text.replace(old, new))


def line_of(arguments: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> str:
    """What `dfm` says on stderr before it ends with status 2; it must be one line."""
    capfd.readouterr()
    assert main(list(arguments)) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fit", "--config", "nowhere.yaml"), "No config 'nowhere.yaml'"),
        (("fit",), "add --config NAME"),
        (("--config", "toy.yaml", "fit"), "dfm fit --config toy.yaml"),
        (("-c", "toy.yaml", "fit"), "dfm fit -c toy.yaml"),
        (("trian", "--config", "toy.yaml"), "no command 'trian'"),
        (("fti",), "Did you mean 'fit'?"),
        ((*TOY, "--trainer.max_stps", "3"), "'trainer.max_stps'. Did you mean 'max_steps'?"),
        ((*TOY, "--model.denoiser.widht", "3"), "'model.denoiser.widht'. Did you mean 'width'?"),
        ((*TOY, "--data.rot", "x"), "'data.rot'. Did you mean 'root'?"),
        ((*TOY, "--trainer.max_steps", "ten"), "trainer.max_steps: expected int, got 'ten'"),
        ((*TOY, "--model.denoiser.width", "ten"), "model.denoiser.width: expected int, got 'ten'"),
        ((*TOY, "--model.guidance_space", "here"), "one of 'signal', 'observation', got 'here'"),
        ((*TOY, "--model.denoiser", "toy_problem.Nothing"), "no attribute 'Nothing'"),
        ((*TOY, "--model.sampler.steps", "0"), "steps must be at least 1, got 0"),
        ((*TOY, "--trainer.check_val_every_n_epoch", "0"), "check_val_every_n_epoch must be at least 1, got 0"),
        ((*TOY, "--trainer.val_check_interval=9999", "--trainer.check_val_every_n_epoch=1"), "val_check_interval"),
        ((*TOY, "--trainer.accumulate_grad_batches", "0"), "accumulate_grad_batches must be at least 1, got 0"),
        ((*TOY, "--trainer.val_check_interval", "0"), "val_check_interval must be above 0, got 0"),
        ((*TOY, "--trainer.gradient_clip_val", "-1"), "gradient_clip_val must be at least 0, got -1"),
        ((*TOY, "--trainer.precision", "transformer-engine"), "not installed: Requirement 'transformer_engine"),
        ((*TOY, "--model.sampler.help"), "one of DCSolver, DDIM, "),
        ((*TOY, "--model.denoiser.help", "--trainer.max_steps=1"), "MLPDenoiser"),
        ((*TOY, "--model.optimizer.lr", "1"), "model.optimizer has learning_rate, betas, "),
        ((*TOY, "--model.denoiser", "UNet"), "no class 'UNet'; there are "),
        ((*TOY, "--model.sampler", "DDIN"), "Did you mean 'DDIM'?"),
        ((*TOY, "--trainer.logger", "WandbLoger"), "Did you mean 'WandbLogger'?"),
        ((*TOY, "--data.root", "nowhere"), "nowhere/index.txt: no such file or directory"),
        ((*TOY, "--data.category", "cube"), "data has no category 'cube'; it has: curve, line."),
        ((*TOY, "--data.category", "curve"), "scene "),
        ((*TOY, "--data.category", "curve", "--data.workers", "1"), "dfm: scene "),
        ((*TOY, "--ckpt_path", "nowhere.ckpt"), "No checkpoint 'nowhere.ckpt'"),
        (("test", *TOY[1:], "--ckpt_path", "toy.yaml"), "'toy.yaml' is not a checkpoint"),
        ((*TOY, "--trainer.strategy", "nothing"), "invalid strategy"),
        ((*TOY, "--trainer.devices", "two"), "trainer.devices is 'two'"),
        ((*TOY, "--trainer.devices", "[0]"), "trainer.devices is [0]"),
        ((*TOY, "--seed_everything=-1"), "seed_everything must be within 0 and 4294967295, got -1"),
        ((*TOY, "--seed_everything=4294967296"), "seed_everything"),
        ((*TOY, "--trainer.num_sanity_val_steps=-2"), "trainer.num_sanity_val_steps"),
        ((*TOY, "--trainer.min_steps=-1"), "trainer.min_steps"),
        ((*TOY, "--data.batch_size=0"), "batch_size"),
        ((*TOY, "--data.scenes=0"), "no training items"),
        ((*TOY, "--data", "toy_problem.NoData"), "`train_dataloader` must be implemented"),
        ((*TOY, "--trainer.callbacks+=Compile", "--trainer.callbacks.parts=[nothing]"), "it has denoiser"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_input(
    folder: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert said in line_of(arguments, capfd)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("width:", "widht:", "'model.denoiser.widht'. Did you mean 'width'?"),
        ("max_steps:", "max_stps:", "'trainer.max_stps'. Did you mean 'max_steps'?"),
        ("model:", "modle:", "Did you mean 'model'?"),
        ("toy_problem.Slope", "toy_problem.Slop", "no attribute 'Slop'"),
        ("{root: data}", "{}", "data: root is required"),
        ("{root: data}", "{root: [", "parsing config"),
        ("max_steps: 20", "max_steps: 20\n  max_steps: 30", "two settings 'max_steps'"),
        ("{root: data}", "&data {root: *data}", "within itself"),
        ("{decay: 0.9}", "{decay: .nan}", "trainer.callbacks.0.decay"),
        ("max_steps: 20", "overfit_batches: .nan", "trainer.overfit_batches"),
        pytest.param("{root: data}", "[" * 600, "nested too deeply", id="deep"),
    ],
)
def test_wrong_config(folder: Path, capfd: pytest.CaptureFixture[str], old: str, new: str, said: str) -> None:
    replaced(folder, old, new)
    assert said in line_of(TOY, capfd)


@pytest.mark.parametrize("content", ["", "# nothing yet\n", "- model\n- data\n", "42", "model"])
def test_a_config_without_settings_is_named(folder: Path, capfd: pytest.CaptureFixture[str], content: str) -> None:
    (folder / "more.yaml").write_text(content)
    assert "more.yaml should hold settings" in line_of((*TOY, "--config", "more.yaml"), capfd)


@pytest.mark.parametrize(
    ("callback", "settings", "said"),
    [
        ("EarlyStopping", "{monitor: val/nothing}", "val/nothing"),
        ("EarlyStopping", "{monitor: val/loss, min_delta: .nan}", "trainer.callbacks.2.min_delta"),
        ("ModelCheckpoint", "{monitor: val/nothing}", "val/nothing"),
        ("LearningRateFinder", "{}", "learning_rate"),
        ("RichModelSummary", "{max_depth: -5}", "max_depth"),
    ],
)
def test_what_a_callback_of_lightning_refuses_is_one_line(
    folder: Path, capfd: pytest.CaptureFixture[str], callback: str, settings: str, said: str
) -> None:
    replaced(folder, "\nmodel:", f"\n  - {{class_path: {callback}, init_args: {settings}}}\nmodel:")
    assert main([*TOY, "--trainer.logger=false", "--trainer.max_steps=5"]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert said in lines[-1]
    assert "Traceback" not in "".join(lines)


def test_an_error_within_lightning_that_it_does_not_raise_itself_is_a_defect(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning.pytorch.callbacks.EarlyStopping.on_validation_end", lambda *_: None.missing)  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        main([*TOY, "--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/loss"])


def test_nothing_is_predicted_for_nobody(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", *TOY[1:]]) == 2
    assert "config needs a writer, as in trainer: {callbacks: [{class_path: TensorWriter" in capfd.readouterr().err


def test_an_interruption_ends_with_its_own_status(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*TOY, "--data.category", "stop"]) == 130
    assert capfd.readouterr().err.splitlines() == ["dfm: interrupted"]


def test_a_defect_keeps_its_traceback(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("dfm_lightning.cli.lightning_cli.run_lightning", fail)
    with pytest.raises(ZeroDivisionError):
        main(list(TOY))


def failing(monkeypatch: pytest.MonkeyPatch, fail: Callable[[], object]) -> None:
    """Let a run do that instead."""
    monkeypatch.setattr("dfm_lightning.cli.lightning_cli.run_lightning", lambda *_: fail())


@pytest.mark.parametrize(
    "number", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EIO, errno.EMFILE]
)
@pytest.mark.parametrize("name", [None, "runs/events"])
def test_what_disks_refuse_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], number: int, name: str | None
) -> None:
    def refuse() -> None:
        raise OSError(number, os.strerror(number), name)

    failing(monkeypatch, refuse)
    line = line_of(TOY, capfd)
    assert line.startswith(f"dfm: {name or 'a file'}")
    assert line.lower().endswith(os.strerror(number).lower())


@pytest.mark.parametrize("error", [ConnectionRefusedError(111, "refused"), OSError("of no number")])
def test_other_errors_of_the_system_are_defects(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def fail() -> None:
        raise error

    failing(monkeypatch, fail)
    with pytest.raises(OSError, match=r"refused|number"):
        main(list(TOY))


def test_what_a_thread_meets_is_said_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def write() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/events")

    def run_thread() -> None:
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()

    failing(monkeypatch, run_thread)
    assert line_of(TOY, capfd) == "dfm: runs/events: no space left on device"


def test_a_reader_that_has_gone_is_no_defect(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", sys.stdout)
    failing(monkeypatch, fail)
    assert main(list(TOY)) == 141


def test_the_traceback_of_wrong_input_can_be_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFM_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        main([*TOY, "--data.root", "nowhere"])


def test_messages_of_several_lines_become_one() -> None:
    assert one_line(ValueError("first\n   second")) == "first second"
    union = (
        'Parser key "trainer":\n  Parser key "precision":\n  Does not validate against any of the Union subtypes\n'
        "  Subtypes: [typing.Literal[64, 32], <class 'NoneType'>]\n  Errors:\n"
        "    - Expected a typing.Literal[64, 32]\n    - Expected a <class 'NoneType'>\n"
        "  Given value type: <class 'int'>\n  Given value: 99"
    )
    assert readable(union) == "trainer.precision: expected one of 64, 32; got '99'"


@pytest.mark.parametrize(
    ("callback", "setting"),
    [("ModelCheckpoint", "every_n_train_steps=-1"), ("EMAWeightAveraging", "decay=2"), ("Timer", "interval=week")],
)
def test_a_callback_that_refuses_a_setting_says_so_and_nothing_else(
    folder: Path, capfd: pytest.CaptureFixture[str], callback: str, setting: str
) -> None:
    line = line_of((*TOY, f"--trainer.callbacks+={callback}", f"--trainer.callbacks.{setting}"), capfd)
    name, _, value = setting.partition("=")
    assert name in line
    assert value in line
    assert "class_path" not in line
    assert "class path" not in line


def test_a_logger_whose_package_is_missing_says_which(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning.pytorch.loggers import wandb

    class Missing:
        def __bool__(self) -> bool:
            return False

        def __str__(self) -> str:
            return "Requirement 'wandb>=0.12.10' not met. HINT: Try running `pip install -U 'wandb>=0.12.10'`"

    monkeypatch.setattr(wandb, "_WANDB_AVAILABLE", Missing())
    line = line_of((*TOY, "--trainer.logger", "WandbLogger"), capfd)
    assert "pip install -U 'wandb" in line
    assert "expected" not in line
