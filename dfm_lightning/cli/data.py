"""The commands of `dfm data`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import datamodules.co3d.inspection
import datamodules.co3d.verification
import datamodules.realestate10k.verification
import datamodules.vimeo90k.verification
from datamodules.captures.poses import find_poses
from datamodules.file_faults import FileFault
from datamodules.synthetic.commands import COMMANDS as GENERATORS
from dfm_lightning.cli.gan_samples import draw_gan_samples
from dfm_lightning.errors import UserError
from dfm_lightning.wording import counted

LayoutName = Literal["auto", "co3d", "vimeo90k", "realestate10k"]


class Layout(NamedTuple):
    """A data set's layout on disk: files that identify it (any of them), and its readers."""

    signs: tuple[str, ...]
    inspect: Callable[[Path], Any]
    verify: Callable[[Path], list[FileFault]]


# "auto" takes the first layout whose sign exists.
LAYOUTS = {
    "co3d": Layout(
        ("*/frame_annotations.jgz",),
        datamodules.co3d.inspection.inspect_root,
        datamodules.co3d.verification.verify_root,
    ),
    "vimeo90k": Layout(
        ("sep_*list.txt", "tri_*list.txt", "vimeo_*/sep_*list.txt", "vimeo_*/tri_*list.txt"),
        datamodules.vimeo90k.verification.inspect_root,
        datamodules.vimeo90k.verification.verify_root,
    ),
    # RealEstate10k comes in several forms, and a capture is read in the same way.
    "realestate10k": Layout(
        ("*",),
        datamodules.realestate10k.verification.inspect_root,
        datamodules.realestate10k.verification.verify_root,
    ),
}


def inspect(root: Path, layout: LayoutName = "auto") -> None:
    """Report what a data set holds: scenes, frames, scales, and what is skipped and why.

    Args:
        root: folder of the data set.
        layout: its layout on disk; "auto" detects it.
    """
    print(_layout(root, layout).inspect(root))


def verify(root: Path, layout: LayoutName = "auto") -> None:
    """Read every file of a data set, and list those that cannot be used; the status is 2 if there are any.

    Args:
        root: folder of the data set.
        layout: its layout on disk; "auto" detects it.
    """
    problems = _layout(root, layout).verify(root)
    for problem in problems:
        print(problem)
    if problems:
        raise UserError(f"{root} has {counted(len(problems), 'problem')}, listed above.")
    print(f"{root}: every file can be used.")


def _layout(root: Path, name: LayoutName) -> Layout:
    if not root.is_dir():
        raise UserError(f"No data set '{root}': there is no such folder.")
    if name != "auto":
        return LAYOUTS[name]
    if not any(root.iterdir()):
        raise UserError(f"The data set '{root}' is an empty folder.")
    return next(layout for layout in LAYOUTS.values() if any(any(root.glob(sign)) for sign in layout.signs))


# Each is a typed function whose docstring explains its parameters and which prints its results.
COMMANDS: dict[str, Callable[..., None]] = {
    **GENERATORS,
    "poses": find_poses,
    "inspect": inspect,
    "verify": verify,
    "gan-samples": draw_gan_samples,
}
