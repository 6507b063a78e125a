"""The noise process that a part of a model holds."""

import pytest
from torch import nn

from dfm_lightning.diffusion import CosineProcess, VarianceExploding
from dfm_lightning.errors import UserError
from dfm_lightning.held_process import HeldProcess


def test_a_process_is_given_back_as_it_was_held() -> None:
    held, process = HeldProcess(), CosineProcess()
    held.hold(process, "levels")
    assert held.process is process
    assert not isinstance(held, nn.Module)


def test_without_a_process_the_error_says_how_to_give_one() -> None:
    with pytest.raises(UserError, match="use_process"):
        _ = HeldProcess().process


def test_a_process_that_scales_its_inputs_is_refused_where_that_matters() -> None:
    held, scaling = HeldProcess(), VarianceExploding(data_std=0.5)
    with pytest.raises(UserError, match=r"levels.*data_std"):
        held.hold(scaling, "levels")
    held.hold(scaling)
    assert held.process is scaling
