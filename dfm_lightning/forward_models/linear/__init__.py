"""Linear forward models of images: operators, their random distributions, and the observation through them."""

from dfm_lightning.forward_models.linear.blurs import Blur, Downsampling, blur, downsampling, gaussian_kernel
from dfm_lightning.forward_models.linear.deepinv import DeepinvOperator, deepinv_operator
from dfm_lightning.forward_models.linear.laws import (
    BoxMasks,
    CompressedSensings,
    Downsamplings,
    GaussianBlurs,
    Matrices,
    Nothing,
    OneOf,
    OperatorLaw,
    PatchMasks,
    StridedMotionBlurs,
)
from dfm_lightning.forward_models.linear.masks import Mask, Zero, mask_operator, whole_image, zero_operator
from dfm_lightning.forward_models.linear.matrices import CompressedSensing, Matrix, matrix_operator
from dfm_lightning.forward_models.linear.measurements import LinearMeasurements
from dfm_lightning.forward_models.linear.observation import (
    LinearObservation,
    Projection,
    Sensing,
    check_context,
    check_measurement,
    check_noise,
    measure,
    one_a_view,
    sensing,
)
from dfm_lightning.forward_models.linear.operator import (
    Ability,
    Decomposition,
    LinearOperator,
    check_abilities,
    conjugate_gradients,
    power_iteration,
)
from dfm_lightning.forward_models.linear.strided_blur import ApproximateStridedBlur, StridedBlur, strided_blur

__all__ = [
    "Ability",
    "ApproximateStridedBlur",
    "Blur",
    "BoxMasks",
    "CompressedSensing",
    "CompressedSensings",
    "Decomposition",
    "DeepinvOperator",
    "Downsampling",
    "Downsamplings",
    "GaussianBlurs",
    "LinearMeasurements",
    "LinearObservation",
    "LinearOperator",
    "Mask",
    "Matrices",
    "Matrix",
    "Nothing",
    "OneOf",
    "OperatorLaw",
    "PatchMasks",
    "Projection",
    "Sensing",
    "StridedBlur",
    "StridedMotionBlurs",
    "Zero",
    "blur",
    "check_abilities",
    "check_context",
    "check_measurement",
    "check_noise",
    "conjugate_gradients",
    "deepinv_operator",
    "downsampling",
    "gaussian_kernel",
    "mask_operator",
    "matrix_operator",
    "measure",
    "one_a_view",
    "power_iteration",
    "sensing",
    "strided_blur",
    "whole_image",
    "zero_operator",
]
