"""The denoiser of linear problems: against InvFusion's released network, and what its three kinds are given."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dfm_lightning.denoisers import OperatorDenoiser
from dfm_lightning.denoisers.operator_denoiser import edm_preconditioning, edm_weight
from dfm_lightning.diffusion import CosineProcess, Karras, VarianceExploding
from dfm_lightning.errors import UserError
from dfm_lightning.forward_models.linear import (
    ApproximateStridedBlur,
    LinearOperator,
    Matrices,
    Matrix,
    Projection,
    mask_operator,
    matrix_operator,
    sensing,
    whole_image,
    zero_operator,
)
from dfm_lightning.forward_models.linear.operator import blank
from dfm_lightning.types import Views, map_tensors

sys.path.insert(0, str(Path(__file__).parents[1] / "networks/hourglass"))

from released import DATA, renamed

SMALL = {
    "patch": 2, "depths": (1, 1), "widths": (48, 96), "windows": (3, 0), "joint": (True, True), "head_width": 16,
    "mapping_width": 32,
}  # fmt: skip


def one_view(tree: object) -> object:
    return map_tensors(lambda tensor: tensor[:, None], tree)


def views(operator: LinearOperator, measurement: Tensor, noise: float = 0.0) -> Views:
    return Views(measurement[:, None], sensing(one_view(operator), (len(measurement), 1), noise))


def small(**options: object) -> OperatorDenoiser:
    torch.manual_seed(0)
    denoiser = OperatorDenoiser(**{**SMALL, **options})
    # Weights that are zero at the start would hide what they are given.
    for parameter in denoiser.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    denoiser.use_process(VarianceExploding())
    return denoiser.eval()


def target(count: int = 2, size: int = 8) -> object:
    return sensing(whole_image((count, 1, 3, size, size)), (count, 1))


@pytest.mark.parametrize("name", ["mask", "matrix", "blur", "none"])
def test_it_is_the_released_network(name: str) -> None:
    case = DATA["model"]
    config = case["config"]
    denoiser = OperatorDenoiser(
        patch=2, depths=config["depths"], widths=config["widths"], windows=(3, 3, 0), joint=(True, True, True),
        head_width=16, mapping_width=64, dropout=0.05,
    ).eval()  # fmt: skip
    denoiser.load_state_dict(renamed(case["state"]))
    process = VarianceExploding(largest_noise=200.0)
    denoiser.use_process(process)
    feature = DATA["feature_degradation"]
    blur = ApproximateStridedBlur(case["fft_kernel"], case["blur_inner_inverse"][:, 0], blank((2, 3, 16, 16)))
    operators: dict[str, LinearOperator] = {
        "mask": mask_operator(feature["mask"]),
        "matrix": matrix_operator(feature["matrix"].unflatten(-1, (3, 16, 16))),
        "blur": blur,
        "none": zero_operator((2, 3, 16, 16)),
    }
    expected, operator = case["outputs"][name], operators[name]
    measurement = expected["y"].view(2, *operator.measurement_shape)
    conditioning = denoiser.condition(views(operator, measurement), target(size=16))
    level = torch.tensor([process.level_at(-float(s.log())) for s in case["sigma"]])
    noisy, level = process.denoiser_input(case["x_t"][:, None], level)
    with torch.no_grad():
        found = denoiser(noisy, level, conditioning)
        log_variance = denoiser.loss_variance(level)
    assert found == pytest.approx(expected["denoised"], abs=1e-4 * expected["denoised"].abs().max().item())
    assert log_variance == pytest.approx(expected["logvar"], rel=1e-4, abs=1e-5)


def test_preconditioning_is_edms() -> None:
    edm = torch.load(Path(__file__).parents[1] / "data/inverse_problems/nppc.pt", weights_only=True)["edm"]
    found = edm_preconditioning(edm["sigma"], 0.5)
    for part, name in ((found.skip, "c_skip"), (found.out, "c_out"), (found.into, "c_in")):
        assert part.flatten() == pytest.approx(edm[name], rel=1e-9)
    assert found.noise == pytest.approx(edm["c_noise"], rel=1e-9)
    assert edm_weight(edm["sigma"], 0.5) == pytest.approx(edm["weight"], rel=1e-9)
    process = VarianceExploding(data_std=None)
    noises = [process.exact_rates(level)[1] for level in Karras().levels(32, process)]
    assert [*noises, 0.0] == pytest.approx(edm["steps_32"].tolist(), rel=1e-9)


@pytest.mark.parametrize(
    ("options", "millions"),
    [({}, 375.3), ({"joint": ()}, 305.5), ({"joint": (), "backprojection": False}, 305.5)],
    ids=["InvFusion", "Palette", "unconditional"],
)
def test_the_papers_models_have_the_papers_sizes(options: dict[str, object], millions: float) -> None:
    with torch.device("meta"):
        denoiser = OperatorDenoiser(**options)
    network = sum(parameter.numel() for parameter in denoiser.network.parameters())
    assert network / 1e6 == pytest.approx(millions, abs=0.1)


def outputs(denoiser: OperatorDenoiser, operator: LinearOperator, seed: int = 0, noise: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    image = torch.randn(2, 3, 8, 8, generator=generator)
    conditioning = denoiser.condition(views(operator, operator.apply(image), noise), target())
    level = torch.tensor([300.0, 700.0])
    noisy = torch.randn(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return denoiser(noisy, level, conditioning)


def matrices(seed: int) -> Matrix:
    drawn = Matrices((4, 8)).draw(2, (3, 8, 8), torch.Generator().manual_seed(seed))
    assert isinstance(drawn, Matrix)
    return drawn


def mixed(operator: Matrix) -> Matrix:
    """Another operator with the same A†y: its rows are combined, and so are its measurements."""
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1)))[0]
    return matrix_operator(torch.einsum("mn,bnchw->bmchw", 3 * turn, operator.rows))


def test_what_each_kind_is_given() -> None:
    first, second = matrices(1), matrices(2)
    unconditional = small(joint=(), backprojection=False)
    assert torch.equal(outputs(unconditional, first), outputs(unconditional, second))
    palette = small(joint=())
    assert not torch.allclose(outputs(palette, first), outputs(palette, second))
    # Palette sees A†y alone, InvFusion the operator.
    assert outputs(palette, first) == pytest.approx(outputs(palette, mixed(first)), abs=1e-4)
    fused = small()
    assert not torch.allclose(outputs(fused, first), outputs(fused, mixed(first)), atol=1e-3)
    one_level = small(joint=(False, True))
    assert sum("degradations" in name for name, _ in one_level.named_parameters()) == 2
    assert sum("degradations" in name for name, _ in fused.named_parameters()) == 6


def test_nothing_measured_is_the_zero_operator() -> None:
    denoiser = small()
    forgotten = outputs(denoiser, matrices(1), noise=float("inf"))
    assert forgotten == pytest.approx(outputs(denoiser, zero_operator((2, 3, 8, 8))), abs=1e-6)
    context = views(matrices(1), torch.ones(2, 8, 1, 1))
    dropped = denoiser.drop_context(context)
    assert torch.isinf(dropped.params.noise).all()
    assert not dropped.observation.any()


def test_a_model_of_classes_forgets_the_class_alone() -> None:
    denoiser = small(classes=5)
    context = views(matrices(1), torch.ones(2, 8, 1, 1))
    context = context._replace(params=context.params._replace(label=torch.tensor([[1], [4]])))
    dropped = denoiser.drop_context(context)
    assert torch.equal(dropped.observation, context.observation)
    assert (dropped.params.label == -1).all()
    level, noisy = torch.tensor([300.0, 700.0]), torch.ones(2, 1, 3, 8, 8)
    with torch.no_grad():
        found = [denoiser(noisy, level, denoiser.condition(c, target())) for c in (context, dropped)]
    assert not torch.allclose(*found)


def test_other_processes_tell_the_same_noise() -> None:
    """At the same noise, a state of another process is the same image to the network."""
    denoiser = small()
    operator = matrices(1)
    conditioning = denoiser.condition(views(operator, torch.ones(2, 8, 1, 1)), target())
    exploding, cosine = VarianceExploding(), CosineProcess()
    level = torch.tensor([200, 600])
    state = torch.randn(2, 1, 3, 8, 8)
    rate, noise = cosine.rates(level, state)
    with torch.no_grad():
        denoiser.use_process(cosine)
        expected = denoiser(rate * state, level, conditioning)
        denoiser.use_process(exploding)
        same = torch.tensor([exploding.level_at(float((rate / noise).log()[i])) for i in (0, 1)])
        found = denoiser(*exploding.denoiser_input(state, same), conditioning)
    assert found == pytest.approx(expected, abs=1e-4)


def test_the_unseen_part_of_a_target_has_no_skip_connection() -> None:
    """With little noise, what is not seen of the target does not follow what stands in its place."""
    denoiser = small(targets="measurements")
    operator = Projection(matrices(2))
    conditioning = denoiser.condition(
        views(matrices(1), torch.ones(2, 8, 1, 1)), sensing(one_view(operator), (2, 1))
    )
    level = torch.tensor([5.0, 5.0])
    process = VarianceExploding()
    unseen = torch.randn(2, 3, 8, 8)
    unseen = unseen - operator.apply(unseen)
    image = operator.apply(torch.randn(2, 3, 8, 8))
    with torch.no_grad():
        found = denoiser(*process.denoiser_input(image[:, None], level), conditioning)
        other = denoiser(*process.denoiser_input((image + unseen)[:, None], level), conditioning)
    seen = operator.apply(found)
    assert (seen - image).abs().max() < 0.1
    difference = other - found - (operator.apply(other) - seen)
    # By the skip connection it would be all of it.
    assert (difference * unseen).sum() / unseen.square().sum() < 0.5


def test_principal_directions_come_from_a_head_of_their_own() -> None:
    denoiser = small(directions=3)
    conditioning = denoiser.condition(views(matrices(1), torch.ones(2, 8, 1, 1)), target())
    image, directions = denoiser.evaluate(torch.ones(2, 1, 3, 8, 8), torch.tensor([300.0, 700.0]), conditioning)
    assert directions.shape == (2, 3, 3, 8, 8)
    assert directions.flatten(2).std(dim=2).min() > 0
    assert image.shape == (2, 3, 8, 8)


def test_widths_that_cannot_be_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\b64\b.*\b48\b"):
        small(widths=(48, 64))
    with pytest.raises(ValueError, match="depths"):
        small(depths=(1, 1, 1))
    denoiser = small()
    for shape in ((3, 6, 6), (1, 8, 8)):
        measured = views(zero_operator((2, *shape)), torch.zeros(2, shape[0], 1, 1))
        with pytest.raises(UserError, match=rf"\({shape[0]}, {shape[1]}, {shape[2]}\).*\b3\b.*\b4\b"):
            denoiser.condition(measured, target(size=shape[1]))
    with pytest.raises(ValueError, match=r"6×6.*\b4\b"):
        denoiser.network(torch.zeros(2, 6, 6, 6), torch.ones(2), [])


def test_it_needs_the_models_process() -> None:
    with pytest.raises(UserError, match="noise process"):
        OperatorDenoiser(**SMALL).noise_of(torch.ones(2))
