"""SparseFusion's finding on folders of tests: distance of features, PSNR and SSIM, paired over scenes.

    python benchmarks/mode_seeking.py mode=demo/sparsefusion/distilled:sample EFT=demo/sparsefusion/test:estimate \
        VLDM=demo/sparsefusion/test:sample 'samples fitted=demo/sparsefusion/samples:sample'

Each is NAME=FOLDER:LAYER, a folder of `dfm test` and a row of its stored pictures. Unseen views alone count.
Differences are the first one's scores less the others', with 95% intervals over scenes.

The distance is LPIPS' of VGG-16's five stages, unit length along channels, squared differences, without weights of
channels, and averaged over networks of random weights (seeds 0 to 3): the trained ones' files are not asked for.
Such features see edges and textures at several scales, but were never taught what people find similar.
"""

import argparse
import os
from pathlib import Path

import lpips
import torch
from torch import Tensor

from dfm_lightning.callbacks.output.layers import read_layers
from dfm_lightning.metrics import psnr, ssim
from dfm_lightning.report.statistics import Estimate, mean_of, paired_difference

NETWORKS = 4
CONTEXT = "context"


def networks() -> list[lpips.LPIPS]:
    """The feature sets."""
    made = []
    for seed in range(NETWORKS):
        torch.manual_seed(seed)
        made.append(
            lpips.LPIPS(net="vgg", pnet_rand=True, lpips=False, verbose=False).requires_grad_(False).eval()
        )
    return made


def views_of(path: Path, layer: str) -> tuple[Tensor, Tensor]:
    """A layer's unseen views, and the true ones, in [-1, 1]."""
    stored = read_layers(path)
    unseen = [number for number, name in enumerate(stored.views) if not name.startswith(CONTEXT)]
    found = {part.name: part.images for part in stored.layers if part.sample in (None, 1)}
    if layer not in found:
        raise SystemExit(f"{path} has no layer '{layer}', only {', '.join(sorted(found))}")
    made, true = (torch.from_numpy(found[name][unseen]).movedim(-1, 1) / 127.5 - 1 for name in (layer, "true"))
    return made, true


def scores_of(folder: Path, layer: str, feature_sets: list[lpips.LPIPS]) -> dict[str, dict[str, float]]:
    """Scores by name, for each scene."""
    scores: dict[str, dict[str, float]] = {}
    for path in sorted((folder / "pictures").glob("*.png")):
        made, true = views_of(path, layer)
        distance = torch.stack([network(made, true).view(-1) for network in feature_sets]).mean(dim=0)
        values = {"distance": distance, "psnr": psnr(made, true), "ssim": ssim(made, true)}
        scores[path.stem] = {name: value.double().mean().item() for name, value in values.items()}
    return scores


def told(estimate: Estimate) -> str:
    """A mean with its interval."""
    interval = "" if estimate.low is None else f" [{estimate.low:.3f}, {estimate.high:.3f}]"
    return f"{estimate.mean:.3f}{interval}"


def main() -> None:
    """Score, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ways", nargs="+", help="NAME=FOLDER:LAYER; the others are compared with the first")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    feature_sets = networks()
    scores = {}
    for way in arguments.ways:
        name, _, place = way.partition("=")
        folder, _, layer = place.rpartition(":")
        scores[name] = scores_of(Path(folder), layer, feature_sets)
    scenes = sorted(set.intersection(*(set(found) for found in scores.values())))
    names = ("distance", "psnr", "ssim")
    print(f"{len(scenes)} scenes: {', '.join(scenes)}")
    first = arguments.ways[0].partition("=")[0]
    for way, found in scores.items():
        means = [mean_of([found[scene][name] for scene in scenes]) for name in names]
        print(f"{way:>20}  " + "  ".join(f"{name} {told(mean)}" for name, mean in zip(names, means, strict=True)))
    for way, found in scores.items():
        if way == first:
            continue
        pairs = [
            paired_difference(*([of[scene][name] for scene in scenes] for of in (scores[first], found)))
            for name in names
        ]
        print(
            f"{first} less {way}:  "
            + "  ".join(f"{name} {told(pair)}" for name, pair in zip(names, pairs, strict=True))
        )


if __name__ == "__main__":
    main()
