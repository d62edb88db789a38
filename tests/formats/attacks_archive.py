"""Whole files made to mislead: ZIP archives whose two directories disagree, bombs, and damaged old PyTorch files."""

import dataclasses
import pickle
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.formats.attacks_pickle import saved

NUMBERS = struct.pack("<4f", 1, 2, 3, 4)


@dataclass(frozen=True)
class Record:
    """An entry of an archive, and what its record and the directory say that is not so."""

    name: str
    data: bytes = b""
    local: dict[str, Any] = field(default_factory=dict)
    central: dict[str, Any] = field(default_factory=dict)
    before: bytes = b""


@dataclass(frozen=True)
class End:
    """What the end of the archive adds to the truth."""

    count: int = 0
    size: int = 0
    start: int = 0
    disk: int = 0
    after: bytes = b""
    comment: bytes = b""


def archive(records: list[Record], end: End | None = None) -> bytes:
    """A ZIP file of stored entries."""
    end = end or End()
    body, directory = b"", b""
    for record in records:
        body += record.before
        facts: dict[str, Any] = {
            "name": record.name.encode(),
            "flags": 0x800,
            "method": 0,
            "crc": zlib.crc32(record.data),
            "packed": len(record.data),
            "size": len(record.data),
            "extra": b"",
        }
        here = facts | record.local
        there = facts | {"offset": len(body), "disk": 0} | record.central
        common = "<4s5H3I2H"
        body += struct.pack(
            common, b"PK\3\4", 0, here["flags"], here["method"], 0, 0, here["crc"], here["packed"], here["size"],
            len(here["name"]), len(here["extra"]),
        )  # fmt: skip
        body += here["name"] + here["extra"] + record.data
        directory += struct.pack(
            "<4s6H3I5H2I", b"PK\1\2", 0, 0, there["flags"], there["method"], 0, 0, there["crc"], there["packed"],
            there["size"], len(there["name"]), len(there["extra"]), 0, there["disk"], 0, 0, there["offset"],
        )  # fmt: skip
        directory += there["name"] + there["extra"]
    count = len(records) + end.count
    last = struct.pack(
        "<4s4H2IH", b"PK\5\6", end.disk, 0, count, count, len(directory) + end.size, len(body) + end.start,
        len(end.comment),
    )  # fmt: skip
    return body + directory + last + end.comment + end.after


def honest(*more: Record, data: bytes = NUMBERS) -> list[Record]:
    """The records of an archive with one tensor."""
    return [Record("a/data.pkl", saved()), Record("a/byteorder", b"little"), Record("a/data/0", data), *more]


def changed(index: int, **values: Any) -> bytes:
    """The honest archive with a lie in one record."""
    records = honest()
    records[index] = dataclasses.replace(records[index], **values)
    return archive(records)


def zipped(content: bytes) -> bytes:
    """An archive around a pickle."""
    return archive([Record("a/data.pkl", content), *honest()[1:]])


def legacy(content: bytes | None = None, keys: object = None, storages: bytes | None = None, **facts: Any) -> bytes:
    """A file as PyTorch wrote it before version 1.6."""
    machine = {"protocol_version": 1001, "little_endian": True} | facts
    parts = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, machine)]
    tail = struct.pack("<q", 4) + NUMBERS if storages is None else storages
    return b"".join([*parts, saved() if content is None else content, pickle.dumps(keys or ["0"], 2), tail])


def _large(number: int) -> bytes:
    """An extra field that says a size of 64 bits."""
    return struct.pack("<2HQ", 1, 8, number)


def _bomb() -> bytes:
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packed.compress(bytes(50_000_000)) + packed.flush()
    lie: dict[str, Any] = {"method": 8, "size": 50_000_000}
    return archive([*honest(), Record("a/data/1", data, lie, lie)])


def _overlapping() -> bytes:
    """Two entries of the directory that share one record, as in zip bombs without nesting."""
    return changed(2, central={"name": b"a/data/0", "offset": 0})


def _at_the_limit() -> bytes:
    """An archive with nearly as many entries as may be, all honest but the last."""
    more = [Record(f"a/data/{number}", NUMBERS) for number in range(1, 5_900)]
    return archive([*honest(), *more, Record("a/data/5900", NUMBERS, local={"crc": 1})])


_END_64 = b"PK\6\7" + struct.pack("<IQI", 0, 2**62, 1)
ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a compressed bomb": (_bomb, "compressed or encrypted, which PyTorch does not do: it may be a bomb"),
    "a compressed pickle": (lambda: changed(0, central={"method": 8}), "compressed or encrypted"),
    "compressed in one place": (lambda: changed(0, local={"method": 8}), "'a/data.pkl' in two ways"),
    "encrypted": (lambda: changed(0, central={"flags": 0x801}, local={"flags": 0x801}), "compressed or encrypted"),
    "encrypted in one place": (lambda: changed(0, local={"flags": 0x801}), "'a/data.pkl' in two ways"),
    "a name twice": (lambda: archive(honest(Record("a/data.pkl", saved()))), "two entries of one name"),
    "a name twice, beneath": (lambda: changed(1, local={"name": b"a/data.pkl"}), "'a/byteorder' in two ways"),
    "a name out of the folder": (lambda: archive(honest(Record("a/../../x"))), "not that of a file in it"),
    "an absolute name": (lambda: archive(honest(Record("/etc/passwd"))), "not that of a file in it"),
    "the other slash": (lambda: archive(honest(Record("a\\x"))), "not that of a file in it"),
    "a drive": (lambda: archive(honest(Record("C:x"))), "not that of a file in it"),
    "a zero in a name": (lambda: archive(honest(Record("a/x\0y"))), "not that of a file in it"),
    "a folder": (lambda: archive(honest(Record("a/x/"))), "not that of a file in it"),
    "a long name": (lambda: archive(honest(Record("a/" + "x" * 400))), "not that of a file in it"),
    "a name of no text": (lambda: changed(1, central={"name": b"a/\xff"}), "a name that is not UTF-8"),
    "two folders": (lambda: archive(honest(Record("b/x"))), "no data.pkl in a folder of its own"),
    "two sizes": (lambda: changed(2, central={"size": 15}), "says two sizes of 'a/data/0'"),
    "another size": (lambda: changed(2, central={"size": 12, "packed": 12}), "two sizes or checksums"),
    "another size beneath": (lambda: changed(2, local={"size": 12}), "two sizes or checksums of 'a/data/0'"),
    "another checksum beneath": (lambda: changed(2, local={"crc": 1}), "two sizes or checksums of 'a/data/0'"),
    "a wrong checksum": (lambda: changed(0, central={"crc": 1}, local={"crc": 1}), "the checksum of 'a/data.pkl'"),
    "sizes left to what follows": (
        lambda: changed(2, central={"flags": 0x808}, local={"flags": 0x808, "crc": 0}),
        "two sizes or checksums of 'a/data/0'",
    ),
    "a size of 64 bits": (
        lambda: changed(2, central={"size": 2**32 - 1, "packed": 2**32 - 1, "extra": _large(2**62) * 2}),
        "an entry with two sizes",
    ),
    "a size that is missing": (lambda: changed(2, central={"size": 2**32 - 1}), "whose size is missing"),
    "a size beyond the file": (
        lambda: changed(2, central={"size": 2**30, "packed": 2**30}, local={"size": 2**30, "packed": 2**30}),
        "reaching into what follows",
    ),
    "overlapping entries": (_overlapping, "overlap or gape|in two ways|no record"),
    "an entry in another": (lambda: changed(2, central={"offset": 20}), "overlap or gape|no record|damaged"),
    "an entry beyond the file": (
        lambda: changed(2, central={"offset": 2**31}),
        "reaching into|overlap or gape|no record|two sizes",
    ),
    "bytes between entries": (lambda: changed(1, before=b"hidden"), "overlap or gape|two sizes"),
    "bytes before the first": (lambda: changed(0, before=b"PK\3\4hidden"), "overlap or gape"),
    "another disk": (lambda: changed(2, central={"disk": 1}), "says two sizes"),
    "bytes after the end": (lambda: archive(honest(), End(after=b"x")), "bytes follow the end of its archive"),
    "a comment": (lambda: archive(honest(), End(comment=b"PK\5\6" + bytes(18))), "directory that does not end"),
    "fewer entries": (lambda: archive(honest(), End(count=-1)), "a directory of another length"),
    "more entries": (lambda: archive(honest(), End(count=1)), "a damaged directory"),
    "60000 entries": (lambda: archive(honest(), End(count=60_000)), "60003 entries"),
    "5903 entries, the last one wrong": (_at_the_limit, "two sizes or checksums of 'a/data/5900'"),
    "no entries": (lambda: archive([]), "not one that PyTorch's save writes|no entries"),
    "a directory elsewhere": (lambda: archive(honest(), End(start=-4)), "directory that does not end"),
    "a longer directory": (lambda: archive(honest(), End(size=4)), "directory that does not end"),
    "two disks": (lambda: archive(honest(), End(disk=1)), "directory that does not end"),
    "an end record elsewhere": (
        lambda: archive(honest())[:-22] + _END_64 + archive(honest())[-22:],
        "an end record that is not where it should be",
    ),
    "no pickle": (lambda: archive(honest()[1:]), "no data.pkl in a folder of its own"),
    "a pickle outside its folder": (lambda: archive([Record("data.pkl", saved())]), "no data.pkl in a folder"),
    "bytes after the pickle": (lambda: zipped(saved() + b"hidden"), "6 bytes follow the end of its pickle"),
    "a second pickle": (lambda: zipped(saved() + saved()), "bytes follow the end of its pickle"),
    "a storage missing": (lambda: archive(honest()[:2]), "storage 0 is missing"),
    "a storage too short": (lambda: archive(honest(data=bytes(12))[:3]), "12 bytes long, not 16"),
    "a storage too long": (lambda: archive(honest(data=bytes(20))[:3]), "20 bytes long, not 16"),
    "big-endian": (lambda: archive([honest()[0], Record("a/byteorder", b"big"), honest()[2]]), "only little-endian"),
    "a program": (lambda: archive(honest(Record("a/constants.pkl"), Record("a/code/a.py"))), "a TorchScript program"),
    "2 MB beside": (lambda: archive(honest(Record("a/hidden", bytes(2**21)))), "2097152 bytes of 'hidden'"),
    "a document": (lambda: archive([Record("word/document.xml", b"<a/>")]), "no data.pkl in a folder"),
    "old: another number": (lambda: pickle.dumps(1) + legacy(), "a Python pickle, which is code to run"),
    "old: another version": (lambda: legacy().replace(b"M\xe9\x03.", b"M\xea\x03."), "lacks the version 1001"),
    "old: big-endian": (lambda: legacy(little_endian=False), "only such are read"),
    "old: a storage among the facts": (lambda: legacy()[:21] + saved() + legacy()[21:], "a storage where none"),
    "old: more keys": (lambda: legacy(keys=["0", "1"]), "list of storages is not that of its tensors"),
    "old: a key twice": (lambda: legacy(keys=["0", "0"]), "list of storages is not that of its tensors"),
    "old: keys that are a table": (lambda: legacy(keys={"0": 1}), "no list of its storages"),
    "old: another count": (lambda: legacy(storages=struct.pack("<q", 5) + NUMBERS), "5 elements, not 4"),
    "old: a negative count": (lambda: legacy(storages=struct.pack("<q", -4) + NUMBERS), "elements, not 4"),
    "old: no data": (lambda: legacy(storages=b""), "cut short"),
    "old: bytes after": (lambda: legacy() + b"x", "1 bytes of no tensor follow"),
    "a plain pickle": (lambda: pickle.dumps({"a": 1}), "a Python pickle, which is code to run"),
    "a plain pickle of protocol 2": (lambda: pickle.dumps([1.5], 2), "a Python pickle, which is code to run"),
    "half a ZIP": (lambda: b"PK\3\4" + bytes(50), "cut short, or bytes follow"),
    "PK alone": (lambda: b"PK", "cut short, or bytes follow"),
    "half a pickle": (lambda: b"\x80", "cut short"),
}
"""Files, made when asked for, and the reason for which each is refused."""


def every_attack() -> dict[str, tuple[bytes, str]]:
    """All hostile files but safetensors: each pickle in an archive, in an old file and alone."""
    from tests.formats.attacks_pickle import PICKLES

    files = {name: (make(), reason) for name, (make, reason) in ARCHIVES.items()}
    for name, (content, reason) in PICKLES.items():
        files[f"{name}, zip"] = zipped(content), reason
        if name != "no STOP":  # there the next pickle goes on
            files[f"{name}, legacy"] = legacy(content), reason
    return files
