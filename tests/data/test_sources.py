import json
import shutil
import tarfile
from pathlib import Path

import pytest

from rein.data import sources
from rein.data.sources import ART_SOURCES, SOURCES, fetch, read_json
from rein.errors import DamagedFileError, ReinError
from tests.data.drawings import archive, icon_json, source, stored


def npm_that(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a program named npm, which does as `script` says, first on the path; returns the log of its arguments."""
    programs = folder / "programs"
    programs.mkdir()
    log = folder / "arguments"
    program = programs / "npm"
    program.write_text(f'#!/bin/sh\necho "$@" > "{log}"\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return log


def test_every_source_is_pinned_and_says_what_its_licence_asks() -> None:
    assert [source.style for source in ART_SOURCES] == ["glossy", "flat", "cartoon", "sticker"]
    for item in SOURCES:
        assert item.integrity.startswith("sha512-") and len(item.integrity) == 95
        assert item.licence and item.author and item.licence.split("-")[0] in item.attribution
        assert "http" not in item.attribution


def test_a_stored_archive_is_read_without_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = stored(tmp_path, "plain")
    monkeypatch.setenv("PATH", "")
    assert read_json(described, fetch(described, tmp_path)) == icon_json("plain")


def test_without_npm_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ReinError, match=r"install Node.js, or run 'npm pack @drawn/plain@1.0.0' elsewhere"):
        fetch(source("plain", b""), tmp_path)


def test_a_missing_archive_is_packed_by_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = stored(tmp_path, "plain")
    kept = shutil.move(tmp_path / described.archive_name, tmp_path / "kept")
    log = npm_that(f'cp "{kept}" {described.archive_name}', tmp_path, monkeypatch)
    cache = tmp_path / "new" / "cache"
    found = fetch(described, cache)
    assert found == cache / described.archive_name and found.read_bytes() == Path(kept).read_bytes()
    assert log.read_text().split() == ["pack", "@drawn/plain@1.0.0", "--ignore-scripts", "--silent"]
    assert list(cache.iterdir()) == [found]


def test_what_npm_says_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm_that("echo first >&2; echo 'no such package' >&2; exit 1", tmp_path, monkeypatch)
    with pytest.raises(ReinError, match=r"npm pack @drawn/plain@1.0.0 failed \(no such package\)"):
        fetch(source("plain", b""), tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_an_archive_with_another_sum_is_refused(tmp_path: Path) -> None:
    described = stored(tmp_path, "plain")
    path = tmp_path / described.archive_name
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedFileError, match=r"is not @drawn/plain 1.0.0: .* delete it and run again"):
        fetch(described, tmp_path)


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (archive("package/other.json", b"{}"), "cannot be read"),
        (archive("package/icons.json", b"{not json"), "cannot be read"),
        (archive("package/icons.json", b"7"), "holds a int"),
        (archive("package/icons.json", b"{}")[:40], "cannot be read"),
        (b"not an archive", "cannot be read"),
    ],
)
def test_a_bad_archive_is_named(packed: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.tgz"
    path.write_bytes(packed)
    with pytest.raises(DamagedFileError, match=f"bad.tgz: package/icons.json {reason}"):
        read_json(source("plain", packed), path)


def test_a_link_and_a_huge_member_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    linked = tmp_path / "linked.tgz"
    (tmp_path / "secret").write_text(json.dumps({"icons": {}}))
    with tarfile.open(linked, "w:gz") as opened:
        info = tarfile.TarInfo("package/icons.json")
        info.type, info.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
        opened.addfile(info)
    with pytest.raises(DamagedFileError, match="is not a file of at most"):
        read_json(source("plain", b""), linked)
    described = stored(tmp_path, "plain")
    monkeypatch.setattr(sources, "MAX_MEMBER_BYTES", 100)
    with pytest.raises(DamagedFileError, match="is not a file of at most 100 bytes"):
        read_json(described, tmp_path / described.archive_name)
