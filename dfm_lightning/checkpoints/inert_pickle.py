"""Read a pickle as data: a pickle machine that builds containers, numbers, and what its caller allows.

Python's own unpickler, however its names are restricted, still calls objects on its stack, sets attributes and
resizes memory as the file says. This one knows a fixed set of instructions, calls only the constructors it is
given, each for one exact pair of module and name, and refuses the rest by name.
"""

import pickletools
import struct
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple, Protocol, cast, runtime_checkable

from dfm_lightning.errors import UserError


@runtime_checkable
class Readable(Protocol):
    """A source of bytes: an open file, a memory map, an `io.BytesIO`."""

    def read(self, size: int, /) -> bytes:
        """Read the next bytes, at most `size`."""

    def readline(self) -> bytes:
        """Read up to and including the next end of line."""

    def tell(self) -> int:
        """Return the position."""


class Name(NamedTuple):
    """A pair of module and name, as a pickle mentions it."""

    module: str
    name: str

    def __str__(self) -> str:
        return printable(f"{self.module}.{self.name}")


def printable(text: str) -> str:
    """Make a file's text safe for a message: one line, of bounded length, no control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:200])


def plain(value: Any) -> Any:
    """Return the value if it may be a key or an element of a set: hashing nested tuples could recurse."""
    if isinstance(value, (str, bytes, int, float)) or value is None:
        return value
    raise ValueError(f"a {type(value).__name__} as a key")


class UnknownNameError(UserError):
    """A file holds a name that is not allowed."""

    def __init__(self, name: Name) -> None:
        super().__init__(f"it holds {name}, which such files do not hold")
        self.name = name


class Unconstructed:
    """A named object in the file before it is called; it holds only its name."""

    def __init__(self, name: Name) -> None:
        self.name = name


class Stateful:
    """A constructed value that also takes a state (instruction BUILD)."""

    def set_state(self, state: Any) -> None:
        """Take the state from the file."""
        # Each subclass takes a state of its own kind.
        raise NotImplementedError


# The names allowed in a file: how to build a value from its arguments; None for a name that may only be an
# argument.
Constructors = Mapping[Name, Callable[..., Any] | None]

_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("INT", "LONG", "FLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE"),
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NOTHING_TO_DO = {"PROTO", "FRAME"}
_STORE = {"BINPUT", "LONG_BINPUT", "PUT"}
_RECALL = {"BINGET", "LONG_BINGET", "GET"}
_MARK = object()


def _refused_instruction(operation: str, argument: Any) -> str:
    mentioned = "" if argument is None else f" ({printable(str(argument)[:200].replace(' ', '.'))})"
    return f"it uses the pickle instruction {operation}{mentioned}, which such files do not need"


def read_pickle(stream: Readable, allowed: Constructors, persistent: Callable[[Any], Any] | None = None) -> Any:
    """Read the value of the pickle at the stream's position, and leave the position after it.

    Args:
        stream: where to read from.
        allowed: the names that the pickle may hold.
        persistent: resolves identifiers of objects outside the pickle; by default such identifiers are refused.

    Raises:
        UserError: the pickle is incomplete, or holds something that is not allowed, which the message names.
    """
    return _Machine(allowed, persistent).run(stream)


class _Machine:
    def __init__(self, allowed: Constructors, persistent: Callable[[Any], Any] | None) -> None:
        self.allowed = allowed
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: Readable) -> Any:
        """Execute instructions until STOP."""
        try:
            for opcode, argument, _ in pickletools.genops(cast(IO[bytes], stream)):
                if opcode.name == "STOP":
                    return self._finished(self.stack.pop())
                self._execute(opcode.name, argument)
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, struct.error) as error:
            raise UserError(f"it is damaged or no pickle ({printable(str(error))})") from error
        raise UserError("it is damaged or no pickle (it ends without a STOP instruction)")

    def _execute(self, operation: str, argument: Any) -> None:
        if operation in _LITERALS:
            self.stack.append(argument)
        elif operation in _CONSTANTS:
            self.stack.append(_CONSTANTS[operation]())
        elif operation in _TUPLES:
            count = _TUPLES[operation]
            self._require(len(self.stack) >= count)
            self.stack[-count:] = [tuple(self.stack[-count:])]
        elif operation in _STORE:
            self.memo[argument] = self.stack[-1]
        elif operation in _RECALL:
            self.stack.append(self.memo[argument])
        elif operation not in _NOTHING_TO_DO:
            method = getattr(self, f"_do_{operation.lower()}", None)
            if method is None:
                raise UserError(_refused_instruction(operation, argument))
            method(argument)

    @staticmethod
    def _require(condition: bool) -> None:
        if not condition:
            raise ValueError("instructions do not fit together")

    def _finished(self, value: Any) -> Any:
        """Return a value that may be put into a container or handed out, not a bare name."""
        if isinstance(value, Unconstructed):
            raise UserError(f"it holds {value.name} where a value belongs")
        self._require(value is not _MARK)
        return value

    def _pop_to_mark(self) -> list[Any]:
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(self._finished(item))
        return items[::-1]

    def _pop(self, kind: type) -> Any:
        value = self.stack.pop()
        self._require(isinstance(value, kind))
        return value

    def _top(self, kind: type) -> Any:
        self._require(isinstance(self.stack[-1], kind))
        return self.stack[-1]

    # --- one method an instruction ---------------------------------------------------------------------

    def _do_mark(self, _: None) -> None:
        self.stack.append(_MARK)

    def _do_memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _do_pop(self, _: None) -> None:
        self.stack.pop()

    def _do_pop_mark(self, _: None) -> None:
        self._pop_to_mark()

    def _do_tuple(self, _: None) -> None:
        # For arguments, which may include names (as may tuples of one to three).
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        self.stack.append(tuple(items[::-1]))

    def _do_list(self, _: None) -> None:
        self.stack.append(self._pop_to_mark())

    def _do_dict(self, _: None) -> None:
        items = self._pop_to_mark()
        self.stack.append({})
        self._set_items(items)

    def _do_append(self, _: None) -> None:
        item = self._finished(self.stack.pop())
        self._top(list).append(item)

    def _do_appends(self, _: None) -> None:
        items = self._pop_to_mark()
        self._top(list).extend(items)

    def _do_additems(self, _: None) -> None:
        items = self._pop_to_mark()
        self._top(set).update(plain(item) for item in items)

    def _do_setitem(self, _: None) -> None:
        value, key = self._finished(self.stack.pop()), self._finished(self.stack.pop())
        self._set_items([key, value])

    def _do_setitems(self, _: None) -> None:
        self._set_items(self._pop_to_mark())

    def _set_items(self, items: list[Any]) -> None:
        self._require(len(items) % 2 == 0)
        self._top(dict).update({plain(k): v for k, v in zip(items[::2], items[1::2], strict=True)})

    def _do_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._push_name(Name(module, name))

    def _do_stack_global(self, _: None) -> None:
        name, module = self._pop(str), self._pop(str)
        self._push_name(Name(module, name))

    def _push_name(self, name: Name) -> None:
        if name not in self.allowed:
            raise UnknownNameError(name)
        self.stack.append(Unconstructed(name))

    def _do_reduce(self, _: None) -> None:
        arguments = self._pop(tuple)
        named = self._pop(Unconstructed)
        constructor = self.allowed[named.name]
        if constructor is None:
            raise UnknownNameError(named.name)
        try:
            built = constructor(*arguments)
        except UserError:
            raise
        except Exception as error:  # Whatever a constructor raises for arguments made to mislead it.
            raise UserError(f"it holds {named.name} of unexpected arguments") from error
        self.stack.append(built)

    def _do_newobj(self, argument: None) -> None:
        self._do_reduce(argument)

    def _do_build(self, _: None) -> None:
        state = self._finished(self.stack.pop())
        target = self._top(Stateful)
        try:
            target.set_state(state)
        except Exception as error:
            raise UserError(f"it holds a {type(target).__name__} of an unexpected state") from error

    def _do_binpersid(self, _: None) -> None:
        if self.persistent is None:
            raise UserError(_refused_instruction("BINPERSID", None))
        self.stack.append(self.persistent(self.stack.pop()))
