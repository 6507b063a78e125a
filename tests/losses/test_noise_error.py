"""The error of predicted noise against SparseFusion's code, and what parts outside of a picture do to it."""

import pytest
import torch
from sparsefusion_reference import PRECISIONS, check, reference

from dfm_lightning.checkpoints.sparsefusion_layout import name_unet, unet_sizes
from dfm_lightning.diffusion import LogSNRCosine, add_noise
from dfm_lightning.losses.noise_error import noise_error
from dfm_lightning.networks.latent_unet import LatentUNet


@pytest.mark.parametrize("precision", PRECISIONS)
def test_training_losses_are_the_released_ones(precision: str) -> None:
    dtype, tolerance = PRECISIONS[precision]
    case = reference()["schedule"]
    expected, given = case[precision]["losses"], {k: v.to(dtype) for k, v in case["loss_inputs"].items()}
    named = name_unet(reference()["unet"]["state_dict"])
    model = LatentUNet(**unet_sizes(named.state)._asdict())
    model.load_state_dict(named.state)
    process, noise, time = LogSNRCosine(), given["noise"], given["times"]
    ratio = process.log_snr(time)
    with torch.no_grad():
        found = model.eval().to(dtype)(add_noise(process, given["z"], noise, time), given["cond"], ratio)
    check(noise_error(found, noise), expected["plain"], tolerance)
    check(noise_error(found, noise, ratio), expected["p2_weighted"], tolerance)
    check(noise_error(found, noise, ratio, given["mask"]), expected["p2_weighted_masked"], tolerance)
