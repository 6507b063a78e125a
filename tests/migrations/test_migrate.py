"""Configs of earlier versions are upgraded; what is newer, or says one thing twice, is refused."""

import copy
from typing import Any

import pytest

from dfm_lightning.errors import UserError
from dfm_lightning.migrations import CONFIG_VERSION, migrate, migrate_with_notice, migrated_option
from dfm_lightning.migrations import upgrade as module
from dfm_lightning.migrations.moved import MOVED_CLASSES, MOVED_SETTINGS, MovedSetting

MOVED = MovedSetting("Model", "model.init_args.old", "model.init_args.group.new")


@pytest.fixture
def _moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MOVED_CLASSES, "old.Model", "new.Model")
    MOVED_SETTINGS.append(MOVED)
    yield
    MOVED_SETTINGS.remove(MOVED)


def config_of(arguments: dict[str, Any], class_path: str | None = "new.Model") -> dict[str, Any]:
    model = {"init_args": arguments}
    return {"model": {"class_path": class_path, **model} if class_path else model}


@pytest.mark.usefixtures("_moved")
def test_classes_are_renamed_wherever_they_stand() -> None:
    stored = {"trainer": {"callbacks": [{"class_path": "old.Model"}]}, "model": {"class_path": "old.Model"}}
    before = copy.deepcopy(stored)
    config, changes = migrate(stored, "a.yaml")
    assert config["trainer"]["callbacks"] == [{"class_path": "new.Model"}]
    assert config["model"] == {"class_path": "new.Model"}
    assert changes == ["old.Model → new.Model"]
    assert stored == before


@pytest.mark.usefixtures("_moved")
@pytest.mark.parametrize("class_path", ["new.Model", "Model", None])
def test_settings_are_put_where_they_belong_now(class_path: str | None) -> None:
    config, changes = migrate(config_of({"old": 3, "other": 1}, class_path), "a.yaml")
    assert config["model"]["init_args"] == {"other": 1, "group": {"new": 3}}
    assert changes == ["model.old → model.group.new"]
    assert migrate(config, "a.yaml") == (config, [])


@pytest.mark.usefixtures("_moved")
def test_settings_of_other_classes_keep_their_names() -> None:
    for config, classes in (
        (config_of({"old": 3}, "mine.Own"), {}),
        (config_of({"old": 3}, None), {"model": "Own"}),
    ):
        assert migrate(config, "a.yaml", classes) == (config, [])
    assert migrated_option("model.old", {"model": "mine.Own"}) == "model.old"
    assert migrated_option("model.old", {"model": "new.Model"}) == "model.group.new"


@pytest.mark.usefixtures("_moved")
def test_a_setting_under_both_of_its_names_is_refused() -> None:
    with pytest.raises(UserError, match=r"a\.yaml.*model\.old.*model\.group\.new"):
        migrate(config_of({"old": 3, "group": {"new": 4}}), "a.yaml")


def test_steps_follow_each_other_from_the_configs_version_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(number: int) -> Any:
        def upgrade(config: dict[str, Any]) -> list[str]:
            config.setdefault("steps", []).append(number)
            return [f"{number} → {number + 1}"]

        return upgrade

    monkeypatch.setattr(module, "STEPS", [step(number) for number in range(3)])
    monkeypatch.setattr(module, "CONFIG_VERSION", 3)
    assert migrate({}, "a.yaml") == ({"steps": [0, 1, 2]}, ["0 → 1", "1 → 2", "2 → 3"])
    assert migrate({"config_version": 2}, "a.yaml") == ({"config_version": 3, "steps": [2]}, ["2 → 3"])
    assert migrate({"config_version": 3}, "a.yaml") == ({"config_version": 3}, [])


@pytest.mark.parametrize("version", [CONFIG_VERSION + 1, "2", True, -1, None, 1.0])
def test_a_version_that_nobody_knows_is_refused(version: Any) -> None:
    with pytest.raises(UserError, match=r"a\.yaml.*config_version"):
        migrate({"config_version": version}, "a.yaml")


@pytest.mark.usefixtures("_moved")
def test_one_line_says_what_was_changed(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        migrate_with_notice(config_of({"old": 3}, "old.Model"), "said.yaml")
    (line,) = capsys.readouterr().err.splitlines()
    assert "said.yaml" in line
    assert "old.Model → new.Model" in line
    assert "model.old → model.group.new" in line


def test_losses_are_settings_of_the_objective() -> None:
    flat = {"smoothness_weight": 0.3, "perceptual": None, "samples": 4}
    for owner in ("InverseGraphics", "MotionPrediction", "DeterministicInverseGraphics"):
        config, _ = migrate(config_of(flat, f"dfm_lightning.tasks.{owner}"), "a.yaml")
        assert config["model"]["init_args"] == {
            "samples": 4,
            "objective": {"smoothness_weight": 0.3, "perceptual": None},
        }
        assert migrated_option("model.smoothness_weight", {"model": owner}) == "model.objective.smoothness_weight"
    own = config_of(flat, "mine.Task")
    assert migrate(own, "a.yaml").config == own


def test_conventions_stand_once() -> None:
    def config(estimate: dict[str, Any]) -> dict[str, Any]:
        conventions = {"near": 2.0, "far": 8.0, "background": [0.0, 0.0, 0.0], "corner_aligned": False}
        denoiser = {"estimate_renderer": {"init_args": {"coarse_samples": 6, **conventions, **estimate}}}
        return config_of({"denoiser": {"init_args": denoiser}, "forward_model": {"init_args": conventions}})

    def estimate(config: dict[str, Any]) -> dict[str, Any]:
        return config["model"]["init_args"]["denoiser"]["init_args"]["estimate_renderer"]["init_args"]

    migrated, changes = migrate(config({}), "a.yaml")
    assert estimate(migrated) == {"coarse_samples": 6}
    assert len(changes) == 4
    # What the constructor is to refuse.
    assert estimate(migrate(config({"near": 1.0}), "a.yaml").config) == {"coarse_samples": 6, "near": 1.0}
    assert estimate(migrate({**config({}), "config_version": 1}, "a.yaml").config)["near"] == 2.0


def posed(kind: str, **settings: Any) -> dict[str, Any]:
    return {"data": {"class_path": f"datamodules.{kind}", "init_args": settings}}


def test_a_part_may_be_the_name_of_a_class_alone() -> None:
    config = {"seed_everything": 0, "config_version": 0, "model": "plain.Model", "data": "plain.Data"}
    assert migrate(config, "a.yaml").config == config | {"config_version": CONFIG_VERSION}


def test_settings_of_posed_images_are_in_groups() -> None:
    old: dict[str, Any] = {
        "root": "x",
        "views": None,
        "context_views": 2,
        "frame_distance": [1, 8],
        "train_scenes": None,
    }
    old |= {"trajectory": "move", "camera_move": {"kind": "sway"}, "trajectory_size": 64, "masks": True}
    config, changes = migrate(posed("co3d.Co3DDataModule", **old), "a.yaml")
    assert config["data"]["init_args"] == {
        "root": "x",
        "views": {"init_args": {"contexts": 2, "distance": [1, 8]}},
        "scenes": {"train": None},
        "evaluation": {"masks": True},
        "prediction": {"trajectory": "move", "move": {"kind": "sway"}, "size": 64},
    }
    assert "data.camera_move → data.prediction.move" in changes
    assert migrate(config, "a.yaml") == (config, [])


def test_a_choice_of_views_replaced_the_settings_that_it_has_now() -> None:
    chosen = {"class_path": "datamodules.posed.sparse_views.SparseViews", "init_args": {"contexts": 3}}
    config, _ = migrate(posed("co3d.Co3DDataModule", views=chosen, context_views=2, novel_views=1), "a.yaml")
    assert config["data"]["init_args"] == {"views": chosen}


def test_other_data_sets_keep_names_that_posed_images_gave_up() -> None:
    clips = posed("vimeo90k.Vimeo90KDataModule", frame_distance=[1, 2], predict_split="test")
    assert migrate(clips, "a.yaml") == (clips, [])
    assert migrated_option("data.frame_distance", {"data": "Vimeo90KDataModule"}) == "data.frame_distance"
    rooms = {"data": "datamodules.realestate10k.RealEstate10kDataModule"}
    assert migrated_option("data.frame_distance", rooms) == "data.views.distance"
    assert migrated_option("data.camera_move.kind", rooms) == "data.prediction.move.kind"
