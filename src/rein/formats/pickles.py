"""Pickles read without running them: an interpreter of the opcodes of protocols 0 to 5 that builds plain data only.

A pickle is a program for a machine with a stack and a memo; see Python's `pickletools` for its opcodes. This machine
has no import and no call: what a name stands for is decided by `rein.formats.pickle_names`, where every answer is a
tensor's description, plain data, a placeholder or a refusal. Work and memory are bounded by the limits below, which
leave room for SDXL's checkpoint with its averages, or SD1's with its optimiser (140,000 opcodes, 13,000 calls).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable

from rein.formats.pickle_names import Placeholder, called, checked_key, made, named
from rein.formats.pickle_tensors import Name, Storage, module_class, refuse, storage
from rein.formats.pickle_texts import NUMBER_LIMIT, decoded, escaped_text, place, quoted_text, real_number, whole_number

PICKLE_LIMIT = 64 * 2**20
OPCODE_LIMIT = 150_000
CALL_LIMIT = 20_000
MARK_LIMIT = 1000
MEMO_LIMIT = 1_000_000
LINE_LIMIT = 1000
"""Bytes of a pickle; opcodes; names, calls, storages and lines of text together; open marks; the highest place in the
memo; characters of a number or name that is written as a line."""

_PUTS, _GETS, _BININT1 = frozenset(b"qr"), frozenset(b"hj"), ord("K")
_FOUR_BYTES = struct.Struct("<I")
_USUAL = {**dict.fromkeys(b"qhK", 1), **dict.fromkeys(b"rj", 4)}
"""Opcodes that a file of weights has most, with the bytes after them: values kept, asked for again, small numbers."""

_REFUSED = {
    "i": "INST, which makes an object of a class",
    "o": "OBJ, which makes an object of a class",
    "P": "PERSID, an identity that is a line of text",
    "\x82": "EXT1, which calls what this computer has registered",
    "\x83": "EXT2, which calls what this computer has registered",
    "\x84": "EXT4, which calls what this computer has registered",
    "\x97": "NEXT_BUFFER, which reads outside the pickle",
    "\x98": "READONLY_BUFFER, which reads outside the pickle",
}


class Unpickler:
    """One run of the machine over `data` from byte `position`.

    Attributes:
        position: the byte after the last opcode that was read.
        storages: what the pickle says of each storage, by key.
        inert: names of the classes that were not made.
    """

    def __init__(self, data: bytes | mmap.mmap, position: int = 0) -> None:
        self.data = data
        self.position = position
        self.storages: dict[str, Storage] = {}
        self.inert: dict[Name, None] = {}
        self._first = position
        self._end = min(len(data), position + PICKLE_LIMIT)
        self._frame_end = 0
        self._stack: list[object] = []
        self._outer: list[list[object]] = []
        self._memo: dict[int, object] = {}
        self._calls = 0
        self._names: dict[tuple[object, object], Name] = {}

    def load(self) -> object:
        """The value that the pickle builds. Raises `RefusedPickleError`."""
        data, end, memo = self.data, self._end, self._memo
        for _ in range(OPCODE_LIMIT):
            position = self.position
            if position >= end:
                refuse(f"its pickle has no end within {end - self._first} bytes")
            if self._frame_end and position >= self._frame_end:
                self._leave_frame()
            code = data[position]
            size = _USUAL.get(code, 0)
            if size and position + size < end:  # two thirds of a usual file: done here, unless something is wrong
                self.position = position + 1 + size
                number = data[position + 1] if size == 1 else _FOUR_BYTES.unpack_from(data, position + 1)[0]
                if code in _PUTS and self._stack and number <= MEMO_LIMIT:
                    memo[number] = self._stack[-1]
                    continue
                if code == _BININT1 or (code in _GETS and number in memo):
                    self._stack.append(number if code == _BININT1 else memo[number])
                    continue
            self.position = position + 1
            if code == 0x2E:  # STOP
                return self._stopped()
            handler = _HANDLERS[code]
            if handler is None:
                refuse(f"its pickle has the opcode {_REFUSED.get(chr(code)) or f'{code}, which does not exist'}")
            handler(self)
        refuse(f"its pickle has more than {OPCODE_LIMIT} opcodes")

    def _stopped(self) -> object:
        if self._outer or len(self._stack) != 1:
            refuse("its pickle ends with more or less than one value")
        return self._stack[0]

    # The stack. A mark puts the stack aside and begins an empty one.

    def _pop(self) -> object:
        if not self._stack:
            refuse("its pickle takes a value from an empty stack")
        return self._stack.pop()

    def _top(self) -> object:
        if not self._stack:
            refuse("its pickle needs a value on an empty stack")
        return self._stack[-1]

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _mark(self) -> None:
        if len(self._outer) >= MARK_LIMIT:
            refuse(f"its pickle is nested more than {MARK_LIMIT} deep")
        self._outer.append(self._stack)
        self._stack = []

    def _marked(self) -> list[object]:
        """The values since the last mark, which is removed with them."""
        if not self._outer:
            refuse("its pickle goes back to a mark that is not there")
        values = self._stack
        self._stack = self._outer.pop()
        return values

    def _pop_or_unmark(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._marked()

    # The bytes.

    def _take(self, count: int) -> bytes:
        start = self.position
        stop = start + count
        if stop > self._end:
            refuse(f"its pickle is cut short, or says {count} bytes where {self._end - start} are left")
        self.position = stop
        return self.data[start:stop]

    def _number(self, count: int) -> int:
        return int.from_bytes(self._take(count), "little")

    def _line(self) -> str:
        self._count_call()
        stop = self.data.find(b"\n", self.position, min(self._end, self.position + LINE_LIMIT))
        if stop < 0:
            refuse(f"its pickle has a line without end, or longer than {LINE_LIMIT} characters")
        text = self._take(stop - self.position)
        self.position += 1
        return text.decode("latin-1")

    # Opcodes, by what they do.

    def _protocol(self) -> None:
        version = self._number(1)
        if self.position != self._first + 2 or version > 5:
            refuse(f"its pickle says protocol {version} at byte {self.position - self._first}; known: 0 to 5, at 0")

    def _frame(self) -> None:
        length = self._number(8)
        if self._frame_end or length > self._end - self.position:
            refuse(f"its pickle has a frame of {length} bytes, inside another or beyond the end")
        self._frame_end = self.position + length

    def _leave_frame(self) -> None:
        if self.position > self._frame_end:
            refuse("its pickle has a frame that ends within an opcode")
        self._frame_end = 0

    def _signed(self, count: int) -> None:
        if count > NUMBER_LIMIT:
            refuse(f"its pickle has a whole number of {count} bytes (at most {NUMBER_LIMIT})")
        self._push(int.from_bytes(self._take(count), "little", signed=True))

    def _text(self, count: int) -> None:
        self._push(decoded(self._take(count)))

    def _bytes(self, count: int) -> None:
        self._push(self._take(count))

    def _tuple_of(self, count: int) -> None:
        if len(self._stack) < count:
            refuse("its pickle takes a value from an empty stack")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _table(self) -> None:
        table: dict[object, object] = {}
        _fill(table, self._marked())
        self._push(table)

    def _append(self, values: list[object]) -> None:
        target = self._top()
        if isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Placeholder):
            refuse("its pickle appends to what is not a list")

    def _append_one(self) -> None:
        value = self._pop()
        self._append([value])

    def _set(self, pairs: list[object]) -> None:
        target = self._top()
        table = target.entries if isinstance(target, Placeholder) else target
        if not isinstance(table, dict):
            refuse("its pickle sets entries of what is not a table")
        _fill(table, pairs)

    def _set_one(self) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def _put(self, place: int) -> None:
        if place > MEMO_LIMIT or place < 0:
            refuse(f"its pickle keeps a value at place {place} (at most {MEMO_LIMIT})")
        self._memo[place] = self._top()

    def _get(self, place: int) -> None:
        if place not in self._memo:
            refuse(f"its pickle asks for a value at place {place}, where none was kept")
        self._push(self._memo[place])

    def _count_call(self) -> None:
        self._calls += 1
        if self._calls > CALL_LIMIT:
            refuse(f"its pickle has more than {CALL_LIMIT} names, calls, storages and lines")

    def _name(self, module: object, name: object) -> None:
        self._count_call()
        if not isinstance(module, str) or not isinstance(name, str):
            refuse("its pickle has a name that is not made of two texts")
        found = self._names.get((module, name))
        if found is None:
            found = self._names[module, name] = named(module, name)
        self._push(found)

    def _global(self) -> None:
        module = self._line()
        self._name(module, self._line())

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._name(module, name)

    def _result(self, value: object) -> None:
        if isinstance(value, Placeholder):
            self.inert[value.name] = None
        self._push(value)

    def _reduce(self) -> None:
        self._count_call()
        arguments, function = self._pop(), self._pop()
        self._result(called(function, arguments))

    def _new_object(self) -> None:
        self._count_call()
        arguments, kind = self._pop(), self._pop()
        self._result(made(kind, arguments))

    def _new_object_with_names(self) -> None:
        keywords = self._pop()
        if not isinstance(keywords, dict):
            refuse("its pickle makes an object with what are not arguments")
        self._new_object()

    def _build(self) -> None:
        """The state of an object: kept in a placeholder; of a table, where PyTorch notes its versions, dropped."""
        state, target = self._pop(), self._top()
        if isinstance(target, Placeholder):
            target.state = state
        elif not isinstance(target, dict):
            refuse(f"its pickle gives a state to a {_kind(target)}, which has none")

    def _persistent(self) -> None:
        self._count_call()
        identity = self._pop()
        kind = module_class(identity)
        if kind is not None:
            self._push(kind)
            return
        found = storage(identity)
        known = self.storages.setdefault(found.key, found)
        if known is not found and known != found:
            refuse(f"it describes its storage {found.key} in two ways")
        self._push(found)


def _fill(table: dict[object, object], pairs: list[object]) -> None:
    if len(pairs) % 2:
        refuse("its pickle has a key without a value")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        checked_key(key)
        if key in table:
            refuse("its pickle has a table with one key twice")
        table[key] = value


def _kind(value: object) -> str:
    return "name" if isinstance(value, Name) else type(value).__name__


Handler = Callable[[Unpickler], None]


def _handlers() -> list[Handler | None]:
    """What each opcode does, by its number; None for one that is refused."""
    machine = Unpickler
    table: dict[str, Handler] = {
        "\x80": machine._protocol,
        "\x95": machine._frame,
        "(": machine._mark,
        "0": machine._pop_or_unmark,
        "1": lambda run: _ignore(run._marked()),
        "2": lambda run: run._push(run._top()),
        "N": lambda run: run._push(None),
        "\x88": lambda run: run._push(True),
        "\x89": lambda run: run._push(False),
        "I": lambda run: run._push(whole_number(run._line())),
        "L": lambda run: run._push(whole_number(run._line())),
        "J": lambda run: run._signed(4),
        "K": lambda run: run._push(run._number(1)),
        "M": lambda run: run._push(run._number(2)),
        "\x8a": lambda run: run._signed(run._number(1)),
        "\x8b": lambda run: run._signed(run._number(4)),
        "F": lambda run: run._push(real_number(run._line())),
        "G": lambda run: run._push(struct.unpack(">d", run._take(8))[0]),
        "S": lambda run: run._push(quoted_text(run._line())),
        "V": lambda run: run._push(escaped_text(run._line())),
        "T": lambda run: run._text(run._number(4)),
        "U": lambda run: run._text(run._number(1)),
        "X": lambda run: run._text(run._number(4)),
        "\x8c": lambda run: run._text(run._number(1)),
        "\x8d": lambda run: run._text(run._number(8)),
        "B": lambda run: run._bytes(run._number(4)),
        "C": lambda run: run._bytes(run._number(1)),
        "\x8e": lambda run: run._bytes(run._number(8)),
        "\x96": lambda run: run._bytes(run._number(8)),
        ")": lambda run: run._push(()),
        "\x85": lambda run: run._tuple_of(1),
        "\x86": lambda run: run._tuple_of(2),
        "\x87": lambda run: run._tuple_of(3),
        "t": lambda run: run._push(tuple(run._marked())),
        "]": lambda run: run._push([]),
        "l": lambda run: run._push(run._marked()),
        "a": machine._append_one,
        "e": lambda run: run._append(run._marked()),
        "}": lambda run: run._push({}),
        "d": machine._table,
        "s": machine._set_one,
        "u": lambda run: run._set(run._marked()),
        "\x8f": lambda run: run._push([]),
        "\x90": lambda run: run._append(run._marked()),
        "\x91": lambda run: run._push(run._marked()),
        "p": lambda run: run._put(place(run._line())),
        "q": lambda run: run._put(run._number(1)),
        "r": lambda run: run._put(run._number(4)),
        "\x94": lambda run: run._put(len(run._memo)),
        "g": lambda run: run._get(place(run._line())),
        "h": lambda run: run._get(run._number(1)),
        "j": lambda run: run._get(run._number(4)),
        "c": machine._global,
        "\x93": machine._stack_global,
        "R": machine._reduce,
        "\x81": machine._new_object,
        "\x92": machine._new_object_with_names,
        "b": machine._build,
        "Q": machine._persistent,
    }
    return [table.get(chr(code)) for code in range(256)]


def _ignore(_: object) -> None:
    """A value that an opcode drops."""


_HANDLERS = _handlers()
