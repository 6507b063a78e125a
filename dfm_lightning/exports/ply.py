"""PLY files of points, binary and little-endian (Turk 1994)."""

from pathlib import Path

import numpy as np

from dfm_lightning.files import whole_file

_TYPES = {"f4": "float", "u1": "uchar"}


def write_ply(path: Path, columns: dict[str, np.ndarray]) -> None:
    """Write the properties of points, in the order given; float32 and uint8 stay what they are.

    Args:
        path: the file.
        columns: for each property by name its values, all of one length.
    """
    table = np.empty(
        len(next(iter(columns.values()))), dtype=[(name, c.dtype.newbyteorder("<")) for name, c in columns.items()]
    )
    for name, column in columns.items():
        table[name] = column
    properties = [f"property {_TYPES[column.dtype.str[1:]]} {name}" for name, column in columns.items()]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(table)}", *properties, "end_header"]
    with whole_file(path) as aside:
        aside.write_bytes("\n".join([*header, ""]).encode() + table.tobytes())
