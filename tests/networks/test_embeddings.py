import importlib.util
import math
from collections.abc import Callable
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from dfm_lightning.denoisers import MLPDenoiser
from dfm_lightning.diffusion import CosineProcess
from dfm_lightning.errors import UserError
from dfm_lightning.networks import embeddings
from dfm_lightning.networks.embeddings import (
    LevelSinusoids,
    harmonic_embedding,
    level_sinusoids,
    position_embedding_2d,
    positional_encoding,
    ratio_sinusoids,
)


def test_position_embedding_has_x_in_its_first_half() -> None:
    embedding = position_embedding_2d(2, 3, 8, torch.zeros((), dtype=torch.float64))
    for row in range(2):
        for column in range(3):
            waves = [
                wave(axis * frequency)
                for axis in (column, row)
                for wave in (math.sin, math.cos)
                for frequency in (1.0, 1e-2)
            ]
            torch.testing.assert_close(embedding[row * 3 + column].tolist(), waves)


def test_position_embedding_of_an_odd_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"width.*\b6\b"):
        position_embedding_2d(2, 2, 6, torch.zeros(()))


def test_level_sinusoids_follow_both_customs() -> None:
    level = torch.tensor([0, 7, 999])
    for index, value in enumerate(level.tolist()):
        dit = level_sinusoids(level, 6, "cosine_first", torch.float64)[index]
        angles = [value * 10_000 ** (-i / 3) for i in range(3)]
        torch.testing.assert_close(dit.tolist(), [*map(math.cos, angles), *map(math.sin, angles)])
        ddpm = level_sinusoids(level, 6, "sine_first", torch.float64)[index]
        angles = [value * 10_000 ** (-i / 2) for i in range(3)]
        torch.testing.assert_close(ddpm.tolist(), [*map(math.sin, angles), *map(math.cos, angles)])


def test_harmonic_embedding_keeps_the_octaves_of_a_value_together() -> None:
    embedding = harmonic_embedding(torch.tensor([0.3, -2.0], dtype=torch.float64), octaves=2)
    angles = [0.3, 0.6, -2.0, -4.0]
    expected = [*map(math.sin, angles), *map(math.cos, angles), 0.3, -2.0]
    torch.testing.assert_close(embedding.tolist(), expected)


def test_positional_encoding_interleaves_sines_and_cosines() -> None:
    point = [0.2, -1.0, 3.0]
    encoding = positional_encoding(torch.tensor(point, dtype=torch.float64), octaves=2, base_frequency=1.5)
    expected = list(point)
    for frequency in (1.5, 3.0):
        expected += [math.sin(frequency * x) for x in point] + [math.cos(frequency * x) for x in point]
    torch.testing.assert_close(encoding.tolist(), expected)


@pytest.mark.parametrize("fine", [8, 32])
def test_position_embeddings_of_another_size_are_resized(fine: int) -> None:
    """As resizing the embedding, taken for an image, where that varies slowly enough to be resized."""
    double = torch.zeros((), dtype=torch.float64)
    coarse = position_embedding_2d(16, 16, 32, double)
    resized = position_embedding_2d(fine, fine, 32, double, grid=16)
    image = coarse.view(1, 16, 16, 32).movedim(3, 1)
    expected = torch.nn.functional.interpolate(image, size=(fine, fine), mode="bilinear").movedim(1, 3)[0]
    found = resized.view(fine, fine, 32)
    slow = [part * 8 + i for part in range(4) for i in range(2, 8)]  # frequencies of at most a tenth
    inside = slice(1, -1)  # at the rim, resizing repeats the border
    error = (found - expected)[inside, inside][..., slow].abs().max()
    assert error < 2e-3
    counted = position_embedding_2d(fine, fine, 32, double).view(fine, fine, 32)
    assert (counted - expected)[inside, inside][..., slow].abs().max() > 0.5
    torch.testing.assert_close(position_embedding_2d(16, 16, 32, double, grid=16), coarse)


@pytest.mark.parametrize("order", ["cosine_first", "sine_first"])
def test_levels_differ_in_half_precision_as_they_do_in_float32(order: str) -> None:
    """bfloat16 itself does not hold whole numbers above 256."""
    levels = torch.arange(1000)
    exact, rounded = (level_sinusoids(levels, 64, order, dtype) for dtype in (torch.float32, torch.bfloat16))
    assert rounded.dtype == torch.bfloat16
    assert torch.equal(rounded, exact.bfloat16())
    assert len(rounded.unique(dim=0)) == 1000


# --- work done once ---------------------------------------------------------------------------------------------


def test_an_embedding_is_made_once_for_each_size_dtype_and_device() -> None:
    like = torch.zeros((), dtype=torch.float64)
    first = position_embedding_2d(3, 4, 8, like)
    assert position_embedding_2d(3, 4, 8, like) is first
    others = [
        position_embedding_2d(4, 3, 8, like),
        position_embedding_2d(3, 4, 8, like, grid=8),
        position_embedding_2d(3, 4, 8, like.float()),
        position_embedding_2d(3, 4, 8, like.to("meta")),
    ]
    assert all(other is not first for other in others)
    assert not torch.equal(others[0], first)
    assert not torch.equal(others[1], first)
    assert (others[2].dtype, others[3].device.type) == (torch.float32, "meta")
    with torch.device("meta"):
        assert position_embedding_2d(2, 7, 8, like).device.type == "cpu"


class Added(nn.Module):
    """What a network does with the embedding."""

    def __init__(self, embedding: Callable[..., Tensor] = position_embedding_2d) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))
        self.embedding = embedding

    def forward(self, image: Tensor) -> Tensor:
        rows, columns = image.shape[1:3]
        return image.flatten(1, 2) * self.weight + self.embedding(rows, columns, 8, self.weight)


def test_an_embedding_made_in_inference_mode_serves_training() -> None:
    part, image = Added(), torch.ones(1, 5, 3, 8)
    with torch.inference_mode():
        expected = part(image)
    result = part(image)
    result.square().sum().backward()
    assert torch.equal(result, expected)
    assert part.state_dict().keys() == {"weight"}


@pytest.mark.parametrize("dynamic", [None, False, True])
def test_the_embedding_is_compiled_as_a_constant(dynamic: bool | None) -> None:
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Tensor]:
        graphs.append(sum(node.op == "call_function" for node in graph.graph.nodes))
        return graph.forward

    # The module again, without the checks of shapes that the tests add, which cannot be compiled.
    spec = importlib.util.spec_from_file_location("unchecked", embeddings.__file__)
    assert spec is not None
    assert spec.loader is not None
    unchecked = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unchecked)
    torch.compiler.reset()
    part = Added(unchecked.position_embedding_2d)
    compiled = torch.compile(part, backend=backend, dynamic=dynamic, fullgraph=True)
    for size in (3, 5, 5, 6, 3):
        image = torch.rand(2, size, 4, 8)
        assert torch.equal(compiled(image), part(image))
    assert len(graphs) == 3
    assert max(graphs) <= 3, "nothing but the product and the sum"


# --- smooth in the signal-to-noise ratio ------------------------------------------------------------------


def test_ratio_sinusoids_are_those_of_the_logarithm() -> None:
    signal, noise = 0.8, 0.6
    ratio = math.log(signal**2 / noise**2)
    waves = [wave(ratio * math.exp(power)) for wave in (math.sin, math.cos) for power in (-3.0, -1.0, 1.0)]
    found = ratio_sinusoids(torch.tensor([signal]), torch.tensor([noise]), 6)
    torch.testing.assert_close(found[0], torch.tensor(waves))


def test_neighbouring_levels_are_embedded_alike() -> None:
    def steps(smooth: bool) -> Tensor:
        """The change of the embedding from one level to the next, in units of its length."""
        embedding = LevelSinusoids(64)
        embedding.smooth = smooth
        embedding.use_process(CosineProcess(1000))
        waves = embedding(torch.arange(50, 950))
        return waves.diff(dim=0).norm(dim=1) / waves[0].norm()

    assert steps(smooth=True).max() < 0.1 < 0.2 < steps(smooth=False).min()


def test_a_denoiser_embeds_smoothly_what_its_process_says() -> None:
    torch.manual_seed(0)
    plain, smooth = MLPDenoiser(2, [1], width=8), MLPDenoiser(2, [1], width=8, smooth_levels=True)
    smooth.load_state_dict(plain.state_dict())
    level, values = torch.tensor([3, 700]), torch.rand(2, 2)
    with pytest.raises(UserError, match="use_process"):
        smooth.network(values, level)
    process = CosineProcess(1000)
    for denoiser in (plain, smooth):
        denoiser.use_process(process)
    waves = ratio_sinusoids(*process.rates(level, level.float()), 8)
    with mock.patch.object(LevelSinusoids, "forward", return_value=waves):
        expected = plain.network(values, level)
    torch.testing.assert_close(smooth.network(values, level), expected)
    assert not torch.equal(plain.network(values, level), expected)
