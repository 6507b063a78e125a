"""The pictures of tested scenes, motions and patches, as layers that a report shows beside those of other runs."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.callbacks.contact_sheet import numbered
from dfm_lightning.callbacks.output import colour_map, images_to_uint8
from dfm_lightning.callbacks.output.flow import flow_colours
from dfm_lightning.callbacks.output.layers import MOST_SAMPLES, MOST_VIEWS, Layer, Layers
from dfm_lightning.metrics import spread
from dfm_lightning.tasks import EvaluatedMotion, EvaluatedPatch, EvaluatedScene

# The spread with the brightest colour of the heat maps, on the scale of [0, 1].
FULL_SPREAD = 0.25


def layers_of_scene(scene: EvaluatedScene) -> Layers:
    """Collect context, truth, estimate and samples with their depth (blue is near), and the samples' spread."""
    shown = evenly(len(scene.roles), MOST_VIEWS)
    contexts = [view for view, role in enumerate(scene.roles) if role == "context"]
    low, high = np.quantile(scene.sample_depths.float().numpy(), [0.02, 0.98])

    def depths(values: Float[Tensor, "v 1 h w"]) -> np.ndarray:
        return colour_map(values[shown, 0], float(low), float(high))

    layers = [Layer("context", images_to_uint8(scene.truth[contexts]))] if contexts else []
    layers += [
        Layer("true", images_to_uint8(scene.truth[shown])),
        Layer("estimate", images_to_uint8(scene.estimate[shown])),
        Layer("estimate depth", depths(scene.estimate_depth)),
    ]
    for number in range(min(MOST_SAMPLES, len(scene.samples))):
        layers.append(Layer("sample", images_to_uint8(scene.samples[number, shown]), number + 1))
        layers.append(Layer("depth", depths(scene.sample_depths[number]), number + 1))
    labels = numbered(scene.roles)
    return Layers([labels[view] for view in shown], layers + spread_layers(scene.samples[:, shown]))


def layers_of_motion(scene: EvaluatedMotion, full_colour: float) -> Layers:
    """Collect the image, true frames and flow, samples with their flow in the wheel's colours, and their spread.

    `full_colour` is the length of displacements that have full colour, as a share of the image's shorter side.
    """
    full = full_colour * min(scene.image.shape[-2:])
    layers = [Layer("context", images_to_uint8(scene.image[None])), Layer("true", images_to_uint8(scene.truth))]
    true_flow = scene.true_motion.get("flow")
    if true_flow is not None:
        layers.append(Layer("true flow", flow_colours(true_flow, full)[None]))
    for number in range(min(MOST_SAMPLES, len(scene.samples))):
        layers.append(Layer("sample", images_to_uint8(scene.samples[number]), number + 1))
        layers.append(Layer("flow", flow_colours(scene.flows[number], full)[None], number + 1))
    return Layers(numbered(scene.roles), layers + spread_layers(scene.samples))


def layers_of_patch(scene: EvaluatedPatch) -> Layers:
    """Collect the patch, the true image, the mean code's image, the samples and their spread."""
    images = {"patch": scene.truth * scene.mask, "true": scene.truth, "mean code": scene.mean_image}
    layers = [Layer(name, images_to_uint8(image[None])) for name, image in images.items()]
    layers += sample_layers(scene.samples[:, None])
    return Layers(["image"], layers + spread_layers(scene.samples[:, None]))


def layers_of_images(pictures: dict[str, Tensor]) -> Layers:
    """Collect pictures by name: [v c h w] in [-1, 1], one for each view, or [s v c h w] of several samples.

    Several samples also give their spread. All have 1 or 3 channels.
    """
    layers: list[Layer] = []
    for name, images in pictures.items():
        if images.ndim == 5:
            layers += sample_layers(images[:, :MOST_VIEWS], name)
            layers += spread_layers(images[:, :MOST_VIEWS])
        else:
            layers.append(Layer(name, images_to_uint8(images[:MOST_VIEWS])))
    most = max(len(layer.images) for layer in layers)
    return Layers([f"view {view + 1}" for view in range(most)], layers)


def sample_layers(samples: Float[Tensor, "s v c h w"], name: str = "sample") -> list[Layer]:
    """Make a layer of each of the first samples."""
    return [Layer(name, images_to_uint8(each), n + 1) for n, each in enumerate(samples[:MOST_SAMPLES])]


def spread_layers(samples: Float[Tensor, "s v c h w"]) -> list[Layer]:
    """Show how much samples differ, as a heat map; nothing for a single one."""
    if len(samples) < 2:
        return []
    heat = colour_map(spread(samples).mean(dim=1), 0.0, FULL_SPREAD, "inferno")
    return [Layer("spread", heat)]


def evenly(count: int, most: int) -> list[int]:
    """Return indices of at most this many of a number of items, including the first and the last."""
    return sorted(set(torch.linspace(0, count - 1, min(most, count)).round().int().tolist()))


def are_images(views: Tensor) -> bool:
    """Tell whether views can be shown: [v c h w], or [s v c h w] of samples, with one or three channels."""
    return views.ndim in (4, 5) and views.shape[-3] in (1, 3) and min(views.shape[-2:]) > 1
