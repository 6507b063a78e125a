import pytest
import torch
from torch import Tensor, nn

from dfm_lightning.networks.dit import DiT, DiTBlock, LevelEmbedding, ModulatedOutput, PatchTokens, unpatchify
from dfm_lightning.networks.embeddings import position_embedding_2d
from dfm_lightning.networks.image_dit import ImageToCodes, ImageToImage


def randomise(module: nn.Module) -> None:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)


def normalised(x: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()


def test_a_block_computes_what_the_paper_says() -> None:
    block = DiTBlock(width=8, heads=2, mlp_ratio=2.0).double()
    randomise(block)
    tokens, condition = torch.randn(1, 3, 8).double(), torch.randn(1, 8).double()
    s1, c1, g1, s2, c2, g2 = block.modulation(condition)[0].split(8)

    x = normalised(tokens[0]) * (1 + c1) + s1
    query, key, value = (x @ block.attn.qkv.weight.T + block.attn.qkv.bias).split(8, dim=1)
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        attention = (query[:, head] @ key[:, head].T / 4**0.5).softmax(dim=1)
        heads.append(attention @ value[:, head])
    x = tokens[0] + g1 * (torch.cat(heads, dim=1) @ block.attn.proj.weight.T + block.attn.proj.bias)
    hidden = (normalised(x) * (1 + c2) + s2) @ block.mlp.fc1.weight.T + block.mlp.fc1.bias
    hidden = 0.5 * hidden * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (hidden + 0.044715 * hidden**3)))
    expected = x + g2 * (hidden @ block.mlp.fc2.weight.T + block.mlp.fc2.bias)

    torch.testing.assert_close(block(tokens, condition)[0], expected)


def test_an_untrained_core_changes_nothing_and_an_untrained_output_is_zero() -> None:
    tokens, condition = torch.randn(2, 5, 16), torch.randn(2, 16)
    torch.testing.assert_close(DiT(16, 3, 4)(tokens, condition), tokens)
    assert not ModulatedOutput(16, 3)(tokens, condition).any()


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match=r"16.*\b3\b"):
        DiT(16, 1, 3)


def test_patch_tokens_are_patches_row_by_row_with_their_positions() -> None:
    layer = PatchTokens(channels=2, width=8, patch=2)
    randomise(layer)
    image = torch.randn(1, 2, 4, 6)
    tokens = layer(image)
    positions = position_embedding_2d(2, 3, 8, image)
    weight, bias = layer.embed.proj.weight.flatten(1), layer.embed.proj.bias
    for row in range(2):
        for column in range(3):
            patch = image[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten()
            torch.testing.assert_close(
                tokens[0, 3 * row + column], weight @ patch + bias + positions[3 * row + column]
            )
    with pytest.raises(ValueError, match="5×6"):
        layer(torch.zeros(1, 2, 5, 6))


def test_unpatchify_puts_each_number_in_its_place() -> None:
    rows, columns, patch, channels = 2, 3, 2, 5
    tokens = torch.randn(1, rows * columns, patch * patch * channels)
    image = unpatchify(tokens, rows, patch)
    for y in range(rows * patch):
        for x in range(columns * patch):
            token = tokens[0, (y // patch) * columns + x // patch]
            start = ((y % patch) * patch + x % patch) * channels
            assert torch.equal(image[0, :, y, x], token[start : start + channels])


def test_the_level_reaches_the_output() -> None:
    network = ImageToImage(3, 4, width=16, depth=1, heads=2, patch=2)
    image = torch.randn(2, 3, 8, 12)
    assert network(image, torch.tensor([0, 500])).shape == (2, 4, 8, 12)
    randomise(network)
    image = image[:1].expand(2, -1, -1, -1)
    assert not torch.allclose(*network(image, torch.tensor([0, 500])))
    assert LevelEmbedding(16)(torch.tensor([3])).shape == (1, 16)


def test_codes_depend_on_all_of_the_image_and_on_each_code_differently() -> None:
    network = ImageToCodes(3, codes=4, code_width=6, width=16, depth=1, heads=2, patch=4).double()
    randomise(network)
    image = torch.randn(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    codes = network(image, torch.tensor([10]))
    assert codes.shape == (1, 4, 6)
    assert not torch.allclose(codes[0, 0], codes[0, 1])
    codes.sum().backward()
    assert image.grad is not None
    assert (image.grad != 0).all()


def test_under_mixed_precision_all_blocks_add_to_tokens_in_float32() -> None:
    tokens, core, level = PatchTokens(3, 16, 2), DiT(16, 2, 2), LevelEmbedding(16)
    randomise(core)
    image, levels = torch.randn(1, 3, 8, 8), torch.tensor([700])
    with torch.autocast("cpu", torch.bfloat16):
        begun = tokens(image)
        ended = core(begun, level(levels))
    assert begun.dtype == ended.dtype == torch.float32
    nn.init.zeros_(tokens.embed.proj.bias)
    with torch.autocast("cpu", torch.bfloat16):
        nothing = tokens(torch.zeros_like(image))
    assert torch.equal(nothing[0], position_embedding_2d(4, 4, 16, image))


def test_networks_of_half_precision_have_their_own_positions() -> None:
    tokens = PatchTokens(3, 16, 2).bfloat16()
    assert tokens(torch.randn(1, 3, 8, 8).bfloat16()).dtype == torch.bfloat16
