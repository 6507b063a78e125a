"""Draw one picture of a test scene: context, truth, estimate and samples."""

import numpy as np

from dfm_lightning.callbacks.output import colour_map, images_to_uint8, labelled_grid
from dfm_lightning.callbacks.output.pictures import RGB
from dfm_lightning.tasks import EvaluatedScene

# More would make the sheet too large to take in.
MOST_VIEWS, MOST_SAMPLES = 10, 4


def contact_sheet(scene: EvaluatedScene, cell: int = 96) -> RGB:
    """Draw a row for each view: the true image, then the deterministic estimate and the samples, each with depth.

    Depth runs from blue (near) to red (far), with the same colours in the whole sheet.
    """
    shown = np.linspace(0, len(scene.roles) - 1, min(MOST_VIEWS, len(scene.roles))).round().astype(int)
    low, high = np.quantile(scene.sample_depths.float().numpy(), [0.02, 0.98])
    images = {"true": scene.truth, "estimate": scene.estimate}
    depths = {"estimate": scene.estimate_depth}
    for number in range(min(MOST_SAMPLES, len(scene.samples))):
        name = f"sample {number + 1}"
        images[name], depths[name] = scene.samples[number], scene.sample_depths[number]
    columns: dict[str, np.ndarray] = {}
    for name, image in images.items():
        columns[name] = images_to_uint8(image)
        if name in depths:
            columns[f"{name}, depth"] = colour_map(depths[name][:, 0], float(low), float(high))
    rows = [[column[view] for column in columns.values()] for view in shown]
    labels = numbered(scene.roles)
    return labelled_grid(rows, list(columns), [labels[view] for view in shown], cell)


def numbered(roles: list[str]) -> list[str]:
    """Number the roles that occur more than once."""
    return [
        f"{role} {roles[: position + 1].count(role)}" if roles.count(role) > 1 else role
        for position, role in enumerate(roles)
    ]
