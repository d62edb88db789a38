"""The ZIP archives that PyTorch writes, read strictly: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT.

    name/data.pkl       the pickle that describes the tensors
    name/byteorder      "little"
    name/data/0, 1, ... the storages, each as it lies in memory

A ZIP file says everything twice, in a directory at its end and before each entry, and programs differ in which of the
two they believe; here both must agree, entries must follow one another without gap or overlap, and none may be
compressed or encrypted, so that no entry is larger than the file. Checksums of the pickle and the small entries are
compared when the file is opened. Those of storages would need all the data to be read: `Weights.verify` does that.
"""

from __future__ import annotations

import mmap
import re
import struct
import zlib
from dataclasses import dataclass

from rein.formats.header import TYPES
from rein.formats.pickle_state import State, sorted_state
from rein.formats.pickle_tensors import StoredTensor, refuse
from rein.formats.pickles import PICKLE_LIMIT, Unpickler
from rein.formats.placed import Contents, PlacedTensor

ENTRY_LIMIT = 6_000
"""Entries of an archive; SDXL with its averages has about 4,200."""

_SMALL = 2**20
_PROGRAM = (
    "it is a TorchScript program, which is code to run, and not a file of weights: take the same model's weights, such "
    "as the model.safetensors of transformers or OpenCLIP"
)
_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64 = struct.Struct("<4sIQI")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_USUAL_NAME = re.compile(rb"\w[\w.-]*+(?:/\w[\w.-]*+)*+")
_UTF8, _DESCRIPTOR_FOLLOWS = 0x800, 0x8
_IN_64 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """One file in an archive: its name, the byte where its record begins, its size, CRC-32 and flags."""

    name: str
    offset: int
    size: int
    checksum: int
    flags: int


def read_archive(data: mmap.mmap) -> Contents:
    """What a PyTorch archive holds. Raises `RefusedPickleError`."""
    entries, directory = _directory(data)
    starts = _data_starts(data, entries, directory)
    root = _root(entries)
    inside = {entry.name[len(root) :]: entry for entry in entries}
    _check_kind(data, inside, starts)
    pickle = inside["data.pkl"]
    if pickle.size > PICKLE_LIMIT:
        refuse(f"its pickle has {pickle.size} bytes (at most {PICKLE_LIMIT})")
    run = Unpickler(_checked(data, pickle, starts))
    value = run.load()
    if run.position != pickle.size:
        refuse(f"{pickle.size - run.position} bytes follow the end of its pickle")
    places = {}
    for key, storage in run.storages.items():
        entry = inside.get(f"data/{key}")
        if entry is None or entry.size != storage.bytes:
            problem = "missing" if entry is None else f"{entry.size} bytes long, not {storage.bytes} as its pickle says"
            refuse(f"its storage {key} is {problem}")
        places[key] = starts[entry.name]
    checksums = {(starts[entry.name], entry.size): entry.checksum for entry in entries}
    return placed_contents(sorted_state(value), places, tuple(map(str, run.inert)), checksums)


def placed_contents(
    state: State, places: dict[str, int], inert: tuple[str, ...], checksums: dict[tuple[int, int], int] | None = None
) -> Contents:
    """The tensors of a pickle with their places in the file; `places` has the first byte of each storage, by key."""
    tensors = {name: _placed(tensor, places[tensor.storage.key]) for name, tensor in state.tensors.items()}
    return Contents(tensors, {}, state.extras, inert, tuple(state.left_out), checksums or {})


def _placed(tensor: StoredTensor, start: int) -> PlacedTensor:
    return PlacedTensor(tensor.dtype, tensor.shape, start + tensor.offset * TYPES[tensor.dtype][1], tensor.strides)


def _directory(data: mmap.mmap) -> tuple[list[ArchiveEntry], int]:
    """The entries as the directory lists them, in the order of the file, and the byte where the directory begins."""
    end = len(data) - _END.size
    if end < 0 or data[end : end + 4] != b"PK\5\6":
        refuse("it is cut short, or bytes follow the end of its archive; download it again")
    _, disk, disk_of, here, count, size, start, comment = _END.unpack_from(data, end)
    if data[max(0, end - _LOCATOR_64.size) : end][:4] == b"PK\6\7":
        end, (disk, disk_of, here, count, size, start) = _end_64(data, end - _LOCATOR_64.size)
    if comment or disk or disk_of or here != count or start + size != end:
        refuse("its archive has a directory that does not end where the archive ends")
    if count > ENTRY_LIMIT:
        refuse(f"its archive has {count} entries (at most {ENTRY_LIMIT})")
    entries, position = [], start
    for _ in range(count):
        entry, position = _central(data, position, end)
        entries.append(entry)
    if position != end:
        refuse("its archive has a directory of another length than it says")
    if len({entry.name for entry in entries}) < len(entries):
        refuse("its archive has two entries of one name")
    return sorted(entries, key=lambda entry: entry.offset), start


def _end_64(data: mmap.mmap, locator: int) -> tuple[int, tuple[int, ...]]:
    """The end record of a large archive: where it begins, and its numbers."""
    _, disk, start, disks = _LOCATOR_64.unpack_from(data, locator)
    if disk or disks != 1 or start + _END_64.size != locator or data[start : start + 4] != b"PK\6\6":
        refuse("its archive has an end record that is not where it should be")
    _, length, _, _, *numbers = _END_64.unpack_from(data, start)
    if length != _END_64.size - 12:
        refuse("its archive has an end record of an unknown kind")
    return start, tuple(numbers)


def _central(data: mmap.mmap, position: int, end: int) -> tuple[ArchiveEntry, int]:
    """The directory's entry at `position`, and where the next one begins."""
    if position + _CENTRAL.size > end or data[position : position + 4] != b"PK\1\2":
        refuse("its archive has a damaged directory")
    fields = _CENTRAL.unpack_from(data, position)
    flags, method, checksum, packed, size, name_length, extra_length, comment_length = *fields[3:5], *fields[7:13]
    disk, offset = fields[13], fields[16]
    start = position + _CENTRAL.size
    stop = start + name_length + extra_length + comment_length
    if stop > end:
        refuse("its archive has a damaged directory")
    name = _name(data[start : start + name_length])
    if "/code/" in name:
        refuse(_PROGRAM)
    if method or flags & ~(_UTF8 | _DESCRIPTOR_FOLLOWS):
        refuse(f"its archive has {name!r} compressed or encrypted, which PyTorch does not do: it may be a bomb")
    if extra_length or _IN_64 in (size, packed, offset):
        extra = data[start + name_length : start + name_length + extra_length]
        size, packed, offset = _large(extra, [size, packed, offset])
    if size != packed or disk:
        refuse(f"its archive says two sizes of {name!r}")
    return ArchiveEntry(name, offset, size, checksum, flags), stop


def _name(text: bytes) -> str:
    """The name of an entry: parts with slashes between them, all below one folder."""
    if len(text) <= 300 and _USUAL_NAME.fullmatch(text):
        return text.decode("ascii")
    try:
        name = text.decode("utf-8")
    except UnicodeDecodeError:
        refuse("its archive has a name that is not UTF-8 text")
    parts = name.split("/")
    if len(text) > 300 or not name.isprintable() or "\\" in name or ":" in name or {"", ".", ".."} & set(parts):
        refuse(f"its archive has the name {name[:100]!r}, which is not that of a file in it")
    return name


def _large(extra: bytes, numbers: list[int]) -> list[int]:
    """Size, packed size and offset, of which those beyond 32 bits stand in an extra field of kind 1."""
    position, found = 0, b""
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == 1 and found:
            refuse("its archive has an entry with two sizes")
        if kind == 1:
            found = extra[position + 4 : position + 4 + length]
        position += 4 + length
    large = [index for index, number in enumerate(numbers) if number == _IN_64]
    if len(found) < 8 * len(large):
        refuse("its archive has an entry whose size is missing")
    for place, index in enumerate(large):
        numbers[index] = int.from_bytes(found[8 * place : 8 * place + 8], "little")
    return numbers


def _data_starts(data: mmap.mmap, entries: list[ArchiveEntry], directory: int) -> dict[str, int]:
    """The first byte of each entry's data. Records must follow one another from byte 0 to the directory."""
    starts, position = {}, 0
    for index, entry in enumerate(entries):
        stop = entries[index + 1].offset if index + 1 < len(entries) else directory
        if entry.offset != position:
            refuse(f"its archive has {entry.name!r} at another place than after the entry before: they overlap or gape")
        starts[entry.name] = _local(data, entry, stop)
        position = stop
    if position != directory:
        refuse("its archive has no entries and is not empty")
    return starts


def _local(data: mmap.mmap, entry: ArchiveEntry, stop: int) -> int:
    """The first byte of an entry's data, its record being compared with the directory; `stop` is where it ends."""
    if entry.offset + _LOCAL.size > stop or data[entry.offset : entry.offset + 4] != b"PK\3\4":
        refuse(f"its archive has no record of {entry.name!r} where the directory says")
    fields = _LOCAL.unpack_from(data, entry.offset)
    flags, method, checksum, packed, size, name_length, extra_length = *fields[2:4], *fields[6:]
    name_start = entry.offset + _LOCAL.size
    start: int = name_start + name_length + extra_length
    name = data[name_start : name_start + name_length]
    if flags != entry.flags or method or name != entry.name.encode():
        refuse(f"its archive describes {entry.name!r} in two ways")
    if start + entry.size > stop:
        refuse(f"its archive has {entry.name!r} reaching into what follows it")
    rest = data[start + entry.size : stop] if stop - start - entry.size <= 24 else b"too long"
    extra = data[name_start + name_length : start]
    if not flags & _DESCRIPTOR_FOLLOWS:
        size, packed, _ = _large(extra, [size, packed, 0])
        same = (checksum, packed, size, rest) == (entry.checksum, entry.size, entry.size, b"")
    else:
        same = rest in _descriptors(entry) and {checksum, packed, size} <= {0, entry.checksum, entry.size, _IN_64}
    if not same:
        refuse(f"its archive says two sizes or checksums of {entry.name!r}")
    return start


def _descriptors(entry: ArchiveEntry) -> tuple[bytes, ...]:
    """What may follow the data of an entry whose record was written before its size was known."""
    large = b"PK\7\x08" + struct.pack("<I2Q", entry.checksum, entry.size, entry.size)
    if entry.size >= _IN_64:
        return (large,)
    return b"PK\7\x08" + struct.pack("<3I", entry.checksum, entry.size, entry.size), large


def _root(entries: list[ArchiveEntry]) -> str:
    """The folder that all entries are in, with the slash."""
    root = entries[0].name.partition("/")[0] + "/" if entries else ""
    if not all(entry.name.startswith(root) for entry in entries) or f"{root}data.pkl" not in {e.name for e in entries}:
        refuse("its archive is not one that PyTorch's save writes: there is no data.pkl in a folder of its own")
    return root


def _check_kind(data: mmap.mmap, inside: dict[str, ArchiveEntry], starts: dict[str, int]) -> None:
    """Refuse programs (TorchScript), and numbers that are stored in the other order of bytes."""
    if "constants.pkl" in inside or any(name.startswith("code/") for name in inside):
        refuse(_PROGRAM)
    for name, entry in inside.items():
        if not name.startswith("data/") and name != "data.pkl":
            if entry.size > _SMALL:
                refuse(f"its archive has {entry.size} bytes of {name!r}, which PyTorch does not write")
            text = _checked(data, entry, starts)
            if name == "byteorder" and text != b"little":
                refuse(f"its numbers are stored in the order {text[:20]!r}; only little-endian ones are read")


def _checked(data: mmap.mmap, entry: ArchiveEntry, starts: dict[str, int]) -> bytes:
    """The data of a small entry, compared with its checksum."""
    start = starts[entry.name]
    content = data[start : start + entry.size]
    if zlib.crc32(content) != entry.checksum:
        refuse(f"the checksum of {entry.name!r} in its archive is wrong; download it again")
    return content
