"""Tar archives of samples: as webdataset reads them, and those that were made to harm."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import time

import pytest
from webdataset import tariterators

from rein.data import archives
from rein.data.archives import Sample, read_archive
from rein.errors import DamagedFileError
from tests.data.gathered import archive, bytes_of, painted

PICTURES = [bytes_of(painted(24, 24, seed)) for seed in range(3)]
MEMBERS = [
    ("sub/0001.png", PICTURES[0]),
    ("sub/0001.txt", b"a cat"),
    ("0002.txt", b"a dog\nan animal"),
    ("0002.PNG", PICTURES[1]),
    ("0002.mask.png", PICTURES[2]),
    ("0003.json", json.dumps({"caption": "a bird"}).encode()),
    ("0003.png", PICTURES[2]),
    ("0003.cls", b"7"),
]


def samples(content: bytes, name: str = "a.tar") -> list[Sample]:
    return list(read_archive(io.BytesIO(content), name, "utf-8", None))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_samples_with_captions_and_masks(mode: str) -> None:
    found = samples(archive(MEMBERS, mode))
    assert [(entry.name, entry.captions, entry.problem) for entry in found] == [
        ("a.tar/sub/0001", ("a cat",), None),
        ("a.tar/0002", ("a dog", "an animal"), None),
        ("a.tar/0003", ("a bird",), None),
    ]
    assert [entry.picture() for entry in found] == PICTURES
    assert [entry.mask and entry.mask() for entry in found] == [None, PICTURES[2], None]


def test_the_same_samples_as_webdataset() -> None:
    content = archive(MEMBERS)
    members = tariterators.tar_file_expander([{"url": "shard.tar", "stream": io.BytesIO(content)}])
    theirs = [(sample["__key__"], sample["png"]) for sample in tariterators.group_by_keys(members)]
    assert [(entry.name.removeprefix("a.tar/"), entry.picture()) for entry in samples(content)] == theirs


def test_what_has_no_picture_or_comes_twice_is_named() -> None:
    found = samples(
        archive(
            [
                ("a.txt", b"words alone"),
                ("b.png", PICTURES[0]),
                ("b.png", PICTURES[1]),
                ("c.gif", b"GIF89a"),
                ("d.png", PICTURES[1]),
                ("d.txt", "für".encode("latin-1")),
                ("b.png", PICTURES[2]),
            ]
        )
    )
    problems = {entry.name: entry.problem or "" for entry in found if entry.problem}
    assert "no picture goes with it" in problems["a.tar/a"]
    assert "twice" in problems["a.tar/b.png"]
    assert "a .gif file" in problems["a.tar/c.gif"]
    assert "cannot be read" in problems["a.tar/d"]
    assert [entry.picture() for entry in found if not entry.problem] == [PICTURES[0]]
    assert sum("twice" in (entry.problem or "") for entry in found) == 2


def test_links_and_devices_are_left_out_and_names_lead_nowhere() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as opened:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"evil{int(kind)}.png")
            member.type, member.linkname = kind, "/etc/passwd"
            opened.addfile(member)
        member = tarfile.TarInfo("../../../outside.png")
        member.size = len(PICTURES[0])
        opened.addfile(member, io.BytesIO(PICTURES[0]))
    found = samples(buffer.getvalue())
    assert [entry.problem for entry in found[:4]] == ["a link or a device; only files are read from archives"] * 4
    assert found[4].picture() == PICTURES[0]  # in memory; nothing is ever written by a member's name


@pytest.mark.parametrize(
    "content", [b"", b"no archive at all" * 100, archive(MEMBERS)[:700], gzip.compress(b"\0" * 100), b"\x1f\x8bxx"]
)
def test_what_is_no_archive_or_cut_short_is_refused(content: bytes) -> None:
    with pytest.raises(DamagedFileError, match=r"a\.tar cannot be read further"):
        samples(content)


def test_a_bomb_is_stopped_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FREE_GROWTH", 2**20)
    bomb = archive([("a.png", bytes(64 * 2**20))], "w:gz")
    assert len(bomb) < 100_000
    began = time.process_time()
    with pytest.raises(DamagedFileError, match="unpacks to more than 200 times"):
        samples(bomb)
    assert time.process_time() - began < 0.5


def test_a_member_that_is_too_large_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 1000)
    found = samples(archive([("a.png", bytes(2000)), ("b.png", b"small")]))
    assert "up to 1000 are read" in (found[0].problem or "")
    assert found[1].picture() == b"small"
