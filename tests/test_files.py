"""A file is all there or not there at all."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rein.errors import InputError, OutputError
from rein.files import atomic_file, parse_json, read_text


def write(path: Path, data: bytes) -> None:
    with atomic_file(path) as handle:
        handle.write(data)


def test_a_file_appears_when_it_is_complete_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with atomic_file(path) as handle:
        handle.write(b"new")
        handle.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_is_not_to_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:

        def refused(*_: object) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refused)
    path = tmp_path / "file"
    with atomic_file(path, replace=False) as handle:
        handle.write(b"first")
    with pytest.raises(FileExistsError), atomic_file(path, replace=False) as handle:
        handle.write(b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write(tmp_path / "link", b"data")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"data"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_after_an_interrupt_the_old_file_is_there_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def stopped_half_way() -> None:
        with atomic_file(path) as handle:
            handle.write(b"half")
            raise error

    with pytest.raises(error):
        stopped_half_way()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EACCES, "no permission"),
        (errno.EROFS, "read-only"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_a_failure_of_the_system_is_one_line_and_leaves_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, words: str
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def failing(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing)
        with pytest.raises(OutputError, match=words) as caught:
            write(path, b"new")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@contextmanager
def small_files_only() -> Iterator[None]:
    """The system itself refuses to let a file grow beyond 10,000 bytes: also the one that pytest may be printing to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_the_system_refuses_half_way(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"), small_files_only():
        write(tmp_path / "a", bytes(20_000))
    assert list(tmp_path.iterdir()) == []


def test_places_where_no_file_can_go(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place, words in [
        (tmp_path, "is a folder"),
        (Path("/dev/null"), "is a device"),
        (tmp_path / "none" / "a", "folder does not exist"),
        (tmp_path / "file" / "a", "is a file, not a folder"),
        (tmp_path / ("n" * 300), "name is too long"),
    ]:
        with pytest.raises(OutputError, match=words):
            write(place, b"data")
    with pytest.raises(InputError, match="zero character"):
        write(tmp_path / "a\0b", b"data")
    assert Path("/dev/null").is_char_device()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("content", [b"a\xc3\xa9\n", b"\xef\xbb\xbfa\xc3\xa9\n"], ids=["plain", "marked"])
def test_a_text_is_read_with_or_without_a_mark_at_its_beginning(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    assert read_text(path, 10, "the text", "shorten it") == "aé\n"
    with path.open("rb") as handle:
        assert read_text(handle, 10, "the text", "shorten it") == "aé\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "the text is not UTF-8 text: save it as UTF-8"),
        (b"a" * 1001, "the text is longer than 1,000 bytes: shorten it"),
        (None, "the text cannot be read: No such file or directory"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_text(tmp_path / "a", 1000, "the text", "shorten it")
    assert str(caught.value) == message
    with pytest.raises(InputError, match="the text cannot be read"):
        read_text("a\0b", 1000, "the text", "shorten it")


def test_an_endless_file_is_not_read_to_its_end() -> None:
    with pytest.raises(InputError, match="longer than 1,000 bytes"):
        read_text("/dev/zero", 1000, "the text", "shorten it")


def test_json_is_that_of_the_standard() -> None:
    assert parse_json(b'{"a": [1, 2.5, null, "\xc3\xa9"]}') == {"a": [1, 2.5, None, "é"]}
    assert parse_json('{"a": 1, "b": 2}', list) == [("a", 1), ("b", 2)]
    for wrong in ("NaN", '{"a": -Infinity}', "[" * 100_000, "", "{", b"\xff", '{"a":1}'.encode("utf-16")):
        with pytest.raises(ValueError):
            parse_json(wrong)
