"""`pytest --quick`, which `make quick` runs: tests that end within two minutes on two idle cores.

It leaves out tests that are marked slow, and the files and folders below. A file that takes too long nevertheless
fails, so that the list stays true.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# Those that train, start processes, compare with slow references or go through every class and command.
LEFT_OUT = [
    "callbacks/test_code_report.py",
    "callbacks/test_next_observation_files.py",
    "callbacks/test_prediction_writers.py",
    "callbacks/test_report.py",
    "callbacks/test_two_processes.py",
    "checkpoints/test_original_parity.py",
    "checkpoints/test_earlier_versions.py",
    "checkpoints/test_from_sparsefusion.py",
    "checkpoints/test_full_size.py",
    "checkpoints/test_variants.py",
    "cli",
    "datamodules/captures/test_captures.py",
    "datamodules/captures/test_lens.py",
    "datamodules/captures/test_poses.py",
    "datamodules/co3d/test_co3d_broken.py",
    "datamodules/co3d/test_co3d_datamodule.py",
    "datamodules/realestate10k/test_broken_rooms.py",
    "datamodules/realestate10k/test_odd_rooms.py",
    "datamodules/realestate10k/test_rooms.py",
    "datamodules/test_spawned_workers.py",
    "diffusion/test_context_guidance.py",
    "diffusion/test_measurement_noise.py",
    "diffusion/test_sampler_contract.py",
    "diffusion/test_sampler_convergence.py",
    "diffusion/test_sampler_parity.py",
    "diffusion/test_sampling_gradients.py",
    "diffusion/zero_shot/test_exact_posteriors.py",
    "examples",
    "exports/test_exports.py",
    "losses/test_perceptual.py",
    "networks/epipolar/test_epipolar.py",
    "networks/latent_unet/test_latent_unet.py",
    "pretrained",
    "stylegan2/test_spoiled_generators.py",
    "tasks/test_gan_inversion.py",
    "tasks/test_latent_views.py",
    "tasks/test_motion_prediction.py",
    "tasks/test_precisions.py",
    "tasks/test_warm_start.py",
    "test_api.py",
    "test_draw_batch.py",
    "test_every_argument.py",
    "test_ranges.py",
    "test_site.py",
    "training/test_resuming.py",
    "training/test_saving.py",
    "training/test_settings.py",
    "tuning/test_tuning.py",
]
# CPU seconds of one file, with the processes it starts: twice what those took that are not left out.
LIMIT = 9.0

_spent: dict[Path, float] = defaultdict(float)
_began = 0.0


def cpu_seconds() -> float:
    """CPU time of this process and of those that it has started and that have ended."""
    return sum(os.times()[:4])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="only tests that end within two minutes on two cores")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    left_out = config.getoption("quick") and any(collection_path == TESTS / name for name in LEFT_OUT)
    return True if left_out else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("quick"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("slow")])
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    global _began
    _began = cpu_seconds()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    yield
    before = _spent[item.path]
    _spent[item.path] += cpu_seconds() - _began
    if item.config.getoption("quick") and before <= LIMIT < _spent[item.path]:
        pytest.fail(
            f"{item.path.name} takes more than {LIMIT:g} s of CPU: mark its slow tests, or add it to LEFT_OUT in "
            f"{Path(__file__).name}",
            pytrace=False,
        )
