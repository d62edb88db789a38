"""The files that PyTorch wrote before version 1.6, and still writes on request: pickles, and then the numbers.

Five pickles follow one another: a fixed number, the version 1001, facts about the machine, the object, and the keys of
the storages. After them each storage stands in the order of the keys: its count of elements in 8 bytes, and its data.
"""

from __future__ import annotations

import mmap

from rein.formats.archive import placed_contents
from rein.formats.pickle_state import sorted_state
from rein.formats.pickle_tensors import Storage, refuse
from rein.formats.pickles import Unpickler
from rein.formats.placed import Contents

MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001


def read_legacy(data: mmap.mmap) -> Contents:
    """What such a file holds. Raises `RefusedPickleError`."""
    position = 0
    for expected, what in ((MAGIC, "a number that PyTorch puts first"), (_VERSION, f"the version {_VERSION}")):
        value, position = _plain(data, position)
        if type(value) is not int or value != expected:
            refuse(f"it is a Python pickle, which is code to run, and not weights from PyTorch: it lacks {what}")
    machine, position = _plain(data, position)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        refuse("its numbers are not said to be little-endian; only such are read")
    run = Unpickler(data, position)
    value = run.load()
    keys, position = _plain(data, run.position)
    places = _places(data, position, keys, run.storages)
    return placed_contents(sorted_state(value), places, tuple(map(str, run.inert)))


def _plain(data: mmap.mmap, position: int) -> tuple[object, int]:
    """The value of the pickle at `position`, in which there are no storages, and where it ends."""
    run = Unpickler(data, position)
    value = run.load()
    if run.storages:
        refuse("it has a storage where none belongs")
    return value, run.position


def _places(data: mmap.mmap, position: int, keys: object, storages: dict[str, Storage]) -> dict[str, int]:
    """The first byte of each storage; together they must end with the file."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        refuse("it has no list of its storages")
    if len(set(keys)) < len(keys) or set(keys) != storages.keys():
        refuse("its list of storages is not that of its tensors")
    places = {}
    for key in keys:
        storage = storages[key]
        start, stop = position + 8, position + 8 + storage.bytes
        if stop > len(data):
            refuse(f"it is cut short: its storage {key} ends at byte {stop} of {len(data)}; download it again")
        count = int.from_bytes(data[position:start], "little")
        if count != storage.count:
            refuse(f"its storage {key} has {count} elements, not {storage.count} as its pickle says")
        places[key], position = start, stop
    if position != len(data):
        refuse(f"{len(data) - position} bytes of no tensor follow the last one")
    return places
