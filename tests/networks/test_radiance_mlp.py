import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dfm_lightning.networks.embeddings import level_sinusoids, positional_encoding
from dfm_lightning.networks.radiance_mlp import RadianceMLP


def random_mlp() -> RadianceMLP:
    torch.manual_seed(0)
    mlp = RadianceMLP(feature_channels=5, width=8, output_features=2, blocks=5, blocks_per_view=3).double()
    for parameter in mlp.parameters():
        nn.init.normal_(parameter, std=0.4)
    return mlp


def plainly(mlp: RadianceMLP, points: Tensor, features: Tensor, levels: list[int]) -> Tensor:
    """One point seen by several views, step by step as in the paper's supplement."""
    per_view = []
    conditions = [
        mlp.level_mlp(level_sinusoids(torch.tensor(level), mlp.width, "sine_first", torch.float64))
        for level in levels
    ]

    def block(index: int, x: Tensor, condition: Tensor) -> Tensor:
        layers = mlp.blocks[index]
        scale, shift = mlp.modulations[index](F.silu(condition)).chunk(2)
        return x + layers.fc1(F.relu(layers.fc0(F.relu(x)) * (scale + 1) + shift))

    for point, feature, condition in zip(points, features, conditions, strict=True):
        weight = torch.cat([mlp.position_in.weight, mlp.feature_in.weight], dim=1)
        x = weight @ torch.cat([positional_encoding(point), feature]) + mlp.position_in.bias
        for index in range(3):
            x = block(index, x, condition)
        per_view.append(x)
    x = torch.stack(per_view).mean(dim=0)
    for index in (3, 4):
        x = block(index, x, conditions[-1])
    return mlp.output(F.relu(x))


def test_views_are_averaged_after_three_blocks_and_the_last_level_rules_from_there() -> None:
    mlp = random_mlp()
    points = torch.randn(2, 3, 4, 3, dtype=torch.float64)
    features = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    levels = torch.tensor([[0, 0, 700], [0, 3, 20]])
    result = mlp(points, mlp.project_maps(features[:, :, None])[:, :, 0], mlp.modulation(levels))
    assert result.shape == (2, 4, 6)
    for b in range(2):
        for n in range(4):
            expected = plainly(mlp, points[b, :, n], features[b, :, n], levels[b].tolist())
            torch.testing.assert_close(result[b, n], expected)


def test_gradients_reach_every_parameter() -> None:
    mlp = random_mlp()
    features = torch.randn(1, 2, 6, 5, dtype=torch.float64)
    points = torch.randn(1, 2, 6, 3, dtype=torch.float64)
    mlp(
        points, mlp.project_maps(features[:, :, None])[:, :, 0], mlp.modulation(torch.tensor([[0, 9]]))
    ).square().sum().backward()
    for name, parameter in mlp.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
