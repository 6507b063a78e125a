"""Nothing in a pickle runs, and the error names what was tried."""

import builtins
import io
import os
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from official_layout import generator, official_modules, snapshot

from dfm_lightning.checkpoints.inert_pickle import Name, read_pickle
from dfm_lightning.checkpoints.stylegan2 import import_generator
from dfm_lightning.errors import UserError


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


def refusal(tmp_path: Path, contents: bytes) -> str:
    """The message a file is refused with. Whatever it tries to run would leave a file behind."""
    path = tmp_path / "hostile.pkl"
    path.write_bytes(contents)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError) as refused:
        import_generator(path)
    assert sorted(tmp_path.iterdir()) == before, "something ran"
    assert "\n" not in str(refused.value)
    return str(refused.value)


def touch(tmp_path: Path) -> str:
    return f"touch {tmp_path}/ran"


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_call_of_a_foreign_function(tmp_path: Path, protocol: int) -> None:
    assert f"{os.system.__module__}.system" in refusal(
        tmp_path, pickle.dumps(Call(os.system, touch(tmp_path)), protocol)
    )


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("function", [eval, exec, getattr, __import__, print, builtins.open, dict])
def test_a_call_within_an_otherwise_good_file(tmp_path: Path, protocol: int, function: Callable) -> None:
    contents = snapshot(generator((2,)), protocol, extra=Call(function, touch(tmp_path)))
    assert f".{function.__name__}," in refusal(tmp_path, contents)


def by_name(module: str, name: str, *arguments: str) -> bytes:
    """A protocol 4 call of any module and name, as STACK_GLOBAL gives them."""
    texts = [struct.pack("<BB", 0x8C, len(text)) + text.encode() for text in (module, name, *arguments)]
    return b"\x80\x04" + texts[0] + texts[1] + b"\x93(" + b"".join(texts[2:]) + b"tR."


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch.serialization", "os.system"),
        ("torch.storage", "_load_from_bytes.__globals__"),
        ("torch.storage.os", "system"),
        ("numpy", "dtype.__class__"),
        ("numpy.core.multiarray", "scalars"),
        ("torch._utils", "_rebuild_tensor"),
        ("collections", "OrderedDict.__init__"),
        ("Torch.storage", "_load_from_bytes"),
        ("", "system"),
    ],
)
def test_names_are_compared_whole(tmp_path: Path, module: str, name: str) -> None:
    assert f"{module}.{name}" in refusal(tmp_path, by_name(module, name, touch(tmp_path)))


def test_names_fit_on_one_line_of_a_terminal(tmp_path: Path) -> None:
    message = refusal(tmp_path, by_name("a\x1b[2J\n", "b" * 255))
    assert "\x1b" not in message
    assert len(message) < 500


def storage_bytes() -> bytes:
    """What the storage of two numbers is pickled as."""
    stream = io.BytesIO()
    torch.save(torch.zeros(2)._typed_storage(), stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def with_storage(data: bytes) -> bytes:
    """A good file in which the bytes of a storage are others."""
    return snapshot(generator((2,)), extra=Call(torch.storage._load_from_bytes, data))


MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03." + b"\x80\x02}q\x00."


def test_a_call_within_a_storage(tmp_path: Path) -> None:
    call = pickle.dumps(Call(os.system, touch(tmp_path)), 2)
    message = refusal(tmp_path, with_storage(MAGIC + call))
    assert f"{os.system.__module__}.system" in message
    dotted = b"\x80\x02ctorch.serialization\nos.system\nX\x02\x00\x00\x00ls\x85R."
    assert "torch.serialization.os.system" in refusal(tmp_path, with_storage(MAGIC + dotted))


def test_a_call_in_place_of_a_storage(tmp_path: Path) -> None:
    message = refusal(tmp_path, with_storage(pickle.dumps(Call(os.system, touch(tmp_path)), 2)))
    assert "a tensor in an unknown format" in message


def test_a_storage_that_is_also_an_archive(tmp_path: Path) -> None:
    """The name of an archive's first member stands at its beginning, so it may begin like a storage."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("pickle"), io.BytesIO())
    data = bytearray(stream.getvalue())
    data[: len(MAGIC)] = MAGIC
    data[148:156] = b" " * 8
    data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()
    assert tarfile.is_tarfile(io.BytesIO(data))
    assert "damaged" in refusal(tmp_path, with_storage(bytes(data)))


def test_something_else_than_a_storage_within(tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save({"a": 1}, stream, _use_new_zipfile_serialization=False)
    assert "in place of a tensor's numbers" in refusal(tmp_path, with_storage(stream.getvalue()))


@pytest.mark.parametrize(
    ("instructions", "named"),
    [
        (b"\x80\x02\x82\x07.", "EXT1 (7)"),
        (b"\x80\x02\x83\x07\x00.", "EXT2 (7)"),
        (b"Pid\n.", "PERSID (id)"),
        (b"\x80\x02X\x02\x00\x00\x00idQ.", "BINPERSID"),
        (b"(S'ls'\nios\nsystem\n.", "INST (os.system)"),
        (b"\x80\x02(cos\nsystem\nX\x02\x00\x00\x00lso.", "os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93)}\x92.", "os.system"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
    ],
)
def test_instructions_such_files_do_not_use(tmp_path: Path, instructions: bytes, named: str) -> None:
    assert named in refusal(tmp_path, instructions)


REBUILD = b"ctorch._utils\n_rebuild_parameter\n"
RECONSTRUCT = b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n"


@pytest.mark.parametrize(
    ("instructions", "named"),
    [
        # A name alone is no value, and no target of a state (which could replace its attributes).
        (b"\x80\x02" + REBUILD + b".", "torch._utils._rebuild_parameter where a value belongs"),
        (
            b"\x80\x02}X\x01\x00\x00\x00a" + REBUILD + b"s.",
            "torch._utils._rebuild_parameter where a value belongs",
        ),
        (b"\x80\x02" + REBUILD + b"}X\x08\x00\x00\x00__code__K\x01sb.", "do not fit together"),
        (b"\x80\x02}}X\x01\x00\x00\x00aK\x01sb.", "do not fit together"),
        # Only names can be called, and only with arguments they know.
        (b"\x80\x02X\x01\x00\x00\x00a)R.", "do not fit together"),
        (b"\x80\x02" + RECONSTRUCT + b")R.", "torch_utils.persistence._reconstruct_persistent_obj of unexpected"),
        (
            b"\x80\x02" + RECONSTRUCT + b"}\x85R.",
            "torch_utils.persistence._reconstruct_persistent_obj of unexpected",
        ),
        (b"\x80\x02cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R.", "numpy.dtype of unexpected"),
        (
            b"\x80\x02cnumpy._core.multiarray\nscalar\nK\x01K\x02\x86R.",
            "numpy._core.multiarray.scalar of unexpected",
        ),
        (
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02K\x03K\x04tR.",
            "_rebuild_tensor_v2 of unexpected",
        ),
        # The stack and the memo hold what they hold.
        (b"\x80\x02h\x05.", "damaged"),
        (b"\x80\x02r\xff\xff\xff\xff.", "damaged"),
        (b"\x80\x020.", "damaged"),
        (b"\x80\x02t.", "damaged"),
        (b"\x80\x02}(K\x01u.", "do not fit together"),
        (b"\x80\x02(.", "do not fit together"),
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7fabc.", "damaged"),
        (b"\x80\x04\x95" + b"\xff" * 8 + b"N.", "no network G_ema"),
    ],
)
def test_instructions_put_together_wrongly(tmp_path: Path, instructions: bytes, named: str) -> None:
    assert named in refusal(tmp_path, instructions)


def test_depth_is_no_danger(tmp_path: Path) -> None:
    """Tuples in tuples, so deep that hashing them, as keys, would overflow the stack."""
    assert "a tuple as a key" in refusal(tmp_path, b"\x80\x02})" + b"\x85" * 3_000 + b"Ns.")
    assert "builtins.set" in refusal(tmp_path, b"\x80\x02cbuiltins\nset\n])\x85\x85a\x85R.")


def tensor_of(offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    storage = Call(torch.storage._load_from_bytes, storage_bytes())
    return snapshot(
        generator((2,)), extra=Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})
    )


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (10**12,), (0,)), (0, (2,), (1000,)), (10**6, (1,), (1,)), (-8, (2,), (1,)), (0, (2,), (-1,))],
)
def test_tensors_stay_within_their_storage(tmp_path: Path, offset: int, size: tuple, stride: tuple) -> None:
    assert "torch._utils._rebuild_tensor_v2 of unexpected" in refusal(tmp_path, tensor_of(offset, size, stride))


def test_the_source_in_the_file_is_not_run_and_modules_are_not_imported(tmp_path: Path) -> None:
    path = tmp_path / "good.pkl"
    path.write_bytes(snapshot(generator((2,))))
    import_generator(path)  # its `module_src` would raise SystemExit, the modules it names do not exist


def test_the_constructors_are_the_callers() -> None:
    with official_modules():
        data = pickle.dumps({"a": Call(max, 1, 2), "b": [1.5, None, (True, b"x")]}, 4)
    value = read_pickle(io.BytesIO(data), {Name("builtins", "max"): lambda a, b: ("called", a, b)})
    assert value == {"a": ("called", 1, 2), "b": [1.5, None, (True, b"x")]}
