"""Collections as people keep them: folders, tables, archives, on this disk and elsewhere."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from rein.data.entries import Entry, Reading, Refused, read_entries
from rein.data.storage import open_storage
from rein.errors import InputError
from tests.data.gathered import archive, bytes_of, painted, save_collection


def read(place: str | Path, encoding: str = "utf-8") -> tuple[list[Entry], dict[str, str]]:
    storage, single = open_storage(place)
    found = list(read_entries(storage, single, Reading(encoding)))
    entries = [entry for entry in found if isinstance(entry, Entry)]
    return entries, {entry.name: entry.reason for entry in found if isinstance(entry, Refused)}


def told(entries: list[Entry]) -> list[tuple[str, tuple[str, ...], bytes]]:
    return [(entry.name, entry.captions, entry.content()) for entry in entries]


def test_a_folder_with_caption_files(tmp_path: Path) -> None:
    save_collection(tmp_path / "in" / "sub")
    (tmp_path / "in" / "b.webp").write_bytes(bytes_of(painted(20, 20, 9), "WEBP"))
    (tmp_path / "in" / "b.caption").write_text("nine")
    (tmp_path / "in" / ".hidden.png").write_bytes(b"")
    (tmp_path / "in" / "notes.md").write_text("no picture")
    (tmp_path / "in" / "old.bmp").write_bytes(b"BM")
    entries, refused = read(tmp_path / "in")
    assert [entry.name for entry in entries] == ["b.webp", "sub/0.png", "sub/1.png", "sub/2.png"]
    assert entries[0].captions == ("nine",)
    assert entries[1].captions == ("picture 0", "the same again")
    assert list(refused) == ["old.bmp"]
    assert "convert it" in refused["old.bmp"]


def test_masks_by_name_by_folder_and_by_table(tmp_path: Path) -> None:
    save_collection(tmp_path, [(24, 24)] * 4)
    mask = bytes_of(painted(24, 24, 5).convert("L"))
    (tmp_path / "masks").mkdir()
    for name in ("0-masklabel.png", "1.mask.png", "masks/2.png", "other.png"):
        (tmp_path / name).write_bytes(mask)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "3.png", "text": "three", "mask": "other.png"}')
    entries, refused = read(tmp_path)
    assert [(entry.name, entry.mask_file) for entry in entries] == [
        ("0.png", "0-masklabel.png"),
        ("1.png", "1.mask.png"),
        ("2.png", "masks/2.png"),
        ("3.png", "other.png"),
    ]
    assert entries[3].captions == ("three",)
    assert refused == {}


def test_a_table_names_what_is_not_there(tmp_path: Path) -> None:
    save_collection(tmp_path, [(24, 24)])
    (tmp_path / "metadata.csv").write_text("file_name,text\n0.png,from the table\ngone.png,x\n../out.png,y\n")
    entries, refused = read(tmp_path)
    assert [(entry.name, entry.captions) for entry in entries] == [("0.png", ("from the table",))]
    assert refused["gone.png"] == "the table names it, and it is not there"
    assert "leads out" in refused["metadata.csv line 4"]


def test_a_caption_of_another_encoding_names_its_picture(tmp_path: Path) -> None:
    save_collection(tmp_path, [(24, 24)])
    (tmp_path / "0.txt").write_bytes("für".encode("cp1252"))
    assert "--encoding" in read(tmp_path)[1]["0.png"]
    assert read(tmp_path, "cp1252")[0][0].captions == ("für",)


def test_archives_in_a_folder_and_alone(tmp_path: Path) -> None:
    save_collection(tmp_path, [(24, 24)])
    shard = archive([("x.png", bytes_of(painted(24, 24, 1))), ("x.txt", b"in the archive")])
    (tmp_path / "s.tar").write_bytes(shard)
    (tmp_path / "t.tar").write_bytes(shard[:600])
    entries, refused = read(tmp_path)
    assert [(entry.name, entry.captions[0]) for entry in entries] == [
        ("0.png", "picture 0"),
        ("s.tar/x", "in the archive"),
    ]
    assert list(refused) == ["t.tar"]
    assert told(read(tmp_path / "s.tar")[0]) == told(entries)[1:]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a server for the files in a folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nothing on stderr."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_over_http(tmp_path: Path, served: str) -> None:
    save_collection(tmp_path / "in", [(24, 24), (24, 24)])
    (tmp_path / "s.tar").write_bytes(archive([("x.png", bytes_of(painted(24, 24, 1))), ("x.txt", b"a cat")]))
    rows = [{"file_name": f"in/{n}.png", "text": f"row {n}"} for n in range(2)]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert told(read(f"{served}/in/")[0]) == told(read(tmp_path / "in")[0])
    assert told(read(f"{served}/s.tar")[0]) == told(read(tmp_path / "s.tar")[0])
    assert [(name, captions) for name, captions, _ in told(read(f"{served}/list.jsonl")[0])] == [
        ("in/0.png", ("row 0",)),
        ("in/1.png", ("row 1",)),
    ]
    with pytest.raises(InputError, match="nothing at|cannot reach"):
        read(f"{served}/nowhere.tar")


def test_another_store_gives_the_same(tmp_path: Path) -> None:
    """fsspec's store in memory has the ways of an object store: names with slashes, no folders."""
    save_collection(tmp_path / "in" / "sub")
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "in"), "/bucket/pictures", recursive=True)
    try:
        assert told(read("memory://bucket/pictures")[0]) == told(read(tmp_path / "in")[0])
    finally:
        memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize("place", ["nowhere", "a\0b", "memory://nowhere", "nosuch://bucket/x", "file.zip"])
def test_nothing_there_is_one_line(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.zip").write_bytes(b"PK")
    with pytest.raises(InputError) as caught:
        read(place)
    assert "\n" not in str(caught.value)
