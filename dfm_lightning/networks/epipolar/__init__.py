"""Epipolar features: what context views show along the rays of a query camera, put together by transformers."""

from dfm_lightning.networks.epipolar.aggregation import EpipolarAggregation, EpipolarFeatures
from dfm_lightning.networks.epipolar.pyramid import ResNetPyramid
from dfm_lightning.networks.epipolar.transformer import ContextMaps, DepthRange, EpipolarTransformer

__all__ = [
    "ContextMaps",
    "DepthRange",
    "EpipolarAggregation",
    "EpipolarFeatures",
    "EpipolarTransformer",
    "ResNetPyramid",
]
