from pathlib import Path

import numpy as np
import pytest

from rein.data.icons import IconArt, IconSet, render
from rein.errors import DamagedFileError, InputError
from tests.data.drawings import FILLS, drawn_options, icon_json, source


def icon_set(**changes: object) -> IconSet:
    return IconSet(source("plain", b""), icon_json("plain", **changes))


def test_a_drawing_is_trimmed_and_centred() -> None:
    bar = render(icon_set().svg("bar"), 64)
    assert bar.shape == (64, 64, 4) and bar.dtype == np.uint8
    rows, columns = np.nonzero(bar[..., 3] > 127)
    assert (columns.min(), columns.max()) == (0, 63)
    assert (rows.min(), rows.max()) == (23, 40)  # 28 x 8 units: 64 x 18 px
    assert np.abs(bar[32, 32, :3].astype(int) - (0xD8, 0x3A, 0x3A)).max() <= 1


def test_an_alias_is_followed_and_mirrored() -> None:
    icons = icon_set()
    assert np.array_equal(render(icons.svg("alias"), 40), render(icons.svg("disc"), 40))
    wing, mirrored = render(icons.svg("wing"), 40), render(icons.svg("mirrored-wing"), 40)
    assert not np.array_equal(wing, mirrored)
    assert np.abs(wing.astype(int) - mirrored[:, ::-1]).max() <= 4


def test_a_box_off_the_origin_is_respected() -> None:
    moved = {"body": '<rect x="100" y="50" width="10" height="10" fill="#d83a3a"/>', "left": 96, "top": 46}
    assert render(icon_set(icons={"moved": moved}).svg("moved"), 32)[16, 16, 3] == 255


@pytest.mark.parametrize(
    ("changes", "name", "reason"),
    [
        ({}, "unicorn", "@drawn/plain 1.0.0 has no icon 'unicorn'"),
        ({"aliases": {"a": {"parent": "b"}, "b": {"parent": "a"}}}, "a", "has no icon 'a'"),
    ],
)
def test_a_missing_icon_is_named(changes: dict[str, object], name: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        icon_set(**changes).svg(name)


@pytest.mark.parametrize(
    ("changes", "name", "reason"),
    [
        ({"icons": {"x": {"body": 3}}}, "x", "not a drawing of a usable size"),
        ({"icons": {"x": {"body": "y" * (5 << 20)}}}, "x", "not a drawing of a usable size"),
        ({"aliases": {"turned": {"parent": "disc", "rotate": 1}}}, "turned", "is a turned one"),
    ],
)
def test_a_damaged_icon_is_named(changes: dict[str, object], name: str, reason: str) -> None:
    with pytest.raises(DamagedFileError, match=reason):
        icon_set(**changes).svg(name)


def test_a_table_without_icons_and_an_empty_drawing_are_refused() -> None:
    with pytest.raises(DamagedFileError, match="no table of icons"):
        IconSet(source("plain", b""), {"prefix": "x"})
    with pytest.raises(DamagedFileError, match="a drawing is empty"):
        render(icon_set(icons={"x": {"body": "<g/>"}}).svg("x"), 32)
    with pytest.raises(DamagedFileError, match="cannot be rendered"):
        render("<svg", 32)


def test_drawings_are_rendered_once_and_then_read(tmp_path: Path) -> None:
    options = drawn_options(tmp_path)
    first = IconArt(options)
    assert first.pixels.shape == (16, len(FILLS), 32, 32, 4)
    for item in options.sources:
        (tmp_path / item.archive_name).unlink()
    second = IconArt(options)
    assert np.array_equal(first.pixels, second.pixels) and first.colours == second.colours
    assert first.icon(0, 1)[16, 16, 0] == 0xFF


def test_another_selection_has_another_file(tmp_path: Path) -> None:
    IconArt(drawn_options(tmp_path))
    small = IconArt(drawn_options(tmp_path, concept_count=3, styles=("bright",)))
    assert small.pixels.shape == (3, 1, 32, 32, 4)
    assert len(list(tmp_path.glob("drawings-*-colours.npy"))) == 2


def test_a_damaged_file_of_drawings_is_named(tmp_path: Path) -> None:
    options = drawn_options(tmp_path)
    IconArt(options)
    (path,) = (item for item in tmp_path.glob("drawings-*.npy") if "colours" not in item.name)
    np.save(path, np.zeros((2, 2), np.uint8))
    with pytest.raises(DamagedFileError, match=f"{path.name} .*delete it and run again"):
        IconArt(options)
    path.write_bytes(b"")
    with pytest.raises(DamagedFileError, match=f"{path.name} .*delete it and run again"):
        IconArt(options)
