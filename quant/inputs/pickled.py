"""Pickles as data: nothing in one is imported, called or made. An object becomes a `Thing` that says what it would be.

So the numbers, paths, dates and classes that people keep beside their weights are no obstacle, and code is inert.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Final, NamedTuple

MOST_OPERATIONS: Final = 2_000_000  # a checkpoint with its optimizer has 50,000
PERSISTENT: Final = "persistent"  # what `Thing.of` is for what the pickle keeps elsewhere; `args` is its id


class Name(NamedTuple):
    """A class or function that the pickle names."""

    module: str
    name: str


@dataclass(eq=False)
class Thing:
    """What a pickle would make: `of(*args)`, its state, items and pairs. A plain dict is of nothing."""

    of: Any = None
    args: Any = ()
    state: Any = None
    values: list[Any] = field(default_factory=list)
    pairs: list[tuple[Any, Any]] = field(default_factory=list)  # not hashed: keys may be anything

    def get(self, key: str) -> Any:
        """The value of a key, the last of equals, or None."""
        return next((value for name, value in reversed(self.pairs) if isinstance(name, str) and name == key), None)

    @property
    def called(self) -> str:
        """`module.name` of what it is of, or ""."""
        return f"{self.of.module}.{self.of.name}" if isinstance(self.of, Name) else ""


def read(stream: bytes | IO[bytes]) -> Any:
    """The value of one pickle, which ends where the stream then stands. ValueError and others: damaged, too long."""
    machine = _Machine()
    for n_done, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if n_done > MOST_OPERATIONS:
            raise ValueError("its pickle is longer than any checkpoint's")
        machine.step(opcode.name, argument)
    return machine.stack.pop()


class _Machine:
    """The stack machine of the pickle format: https://docs.python.org/3/library/pickletools.html."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"its pickle has {name}, which no checkpoint needs")

    def replace(self, made: Callable[[list[Any]], Any]) -> None:
        found = self.since_mark()
        self.stack.append(made(found))

    def since_mark(self) -> list[Any]:
        found, self.stack = self.stack, self.marks.pop()
        return found

    def mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.since_mark()

    def pop_mark(self, _: Any) -> None:
        self.since_mark()

    def tuple_of(self, n: int) -> None:
        self.stack[len(self.stack) - n :] = [tuple(self.stack[len(self.stack) - n :])]

    def append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        (target.values if isinstance(target, Thing) else target).extend(values)

    def set_items(self, flat: list[Any]) -> None:
        self.stack[-1].pairs.extend(_paired(flat))

    def make(self, of: Any, args: Any) -> None:
        self.stack.append(Thing(of, args))

    def reduce(self, _: Any) -> None:
        args, of = self.stack.pop(), self.stack.pop()
        self.make(of, args)

    def make_with_keywords(self, _: Any) -> None:
        keywords, args, of = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.make(of, (args, keywords))

    def build(self, _: Any) -> None:
        state = self.stack.pop()
        self.stack[-1].state = state

    def remember(self, place: Any) -> None:
        self.memo[len(self.memo) if place is None else place] = self.stack[-1]

    def stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Name(str(module), str(name)))

    def instance(self, named: str | None) -> None:
        found = self.since_mark()
        of = Name(*named.split(" ", 1)) if named else found.pop(0)
        self.make(of, tuple(found))


def _paired(flat: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)


_PUSHED: Final = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
)
_CONSTANTS: Final[dict[str, Callable[[], Any]]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": Thing,
    "EMPTY_SET": Thing,
}
_STEPS: Final[dict[str, Callable[[_Machine, Any], None]]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "TUPLE": lambda m, _: m.replace(tuple),
    "LIST": lambda m, _: m.replace(list),
    "FROZENSET": lambda m, _: m.replace(tuple),
    "DICT": lambda m, _: m.replace(lambda flat: Thing(pairs=list(_paired(flat)))),
    "APPEND": lambda m, _: m.append([m.stack.pop()]),
    "APPENDS": lambda m, _: m.append(m.since_mark()),
    "ADDITEMS": lambda m, _: m.append(m.since_mark()),
    "SETITEM": lambda m, _: m.set_items([m.stack.pop(), m.stack.pop()][::-1]),
    "SETITEMS": lambda m, _: m.set_items(m.since_mark()),
    "GLOBAL": lambda m, named: m.stack.append(Name(*named.split(" ", 1))),
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.reduce,
    "NEWOBJ_EX": _Machine.make_with_keywords,
    "BUILD": _Machine.build,
    "INST": _Machine.instance,
    "OBJ": lambda m, _: m.instance(None),
    "PERSID": lambda m, named: m.make(PERSISTENT, named),
    "BINPERSID": lambda m, _: m.make(PERSISTENT, m.stack.pop()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, place: m.stack.append(m.memo[place])),
}
