"""Stored colours of latents: kept, refused where damaged, ignored where they are another autoencoder's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rein.errors import DamagedFileError
from rein.formats.previews import PREVIEW_FILE, read_preview_colours, write_preview_colours
from tests.pipeline.small import save_small

ROWS = [[0.1 * row + column for column in range(3)] for row in range(5)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_preview_colours(save_small(tmp_path / "model", "pocket"), ROWS)
    return tmp_path / "model"


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / PREVIEW_FILE).read_text())
    change(content)
    (folder / PREVIEW_FILE).write_text(json.dumps(content))


def test_written_and_read_again(folder: Path) -> None:
    found = read_preview_colours(folder, 4)
    assert found is not None
    assert [list(row) for row in found] == [pytest.approx(row, rel=1e-5) for row in ROWS]


def test_none_are_stored(tmp_path: Path) -> None:
    assert read_preview_colours(save_small(tmp_path, "pocket"), 4) is None
    assert read_preview_colours(tmp_path / "nowhere", 4) is None


def test_those_of_another_autoencoder_are_not_taken(folder: Path) -> None:
    save_small(folder, "pocket", seed=1)
    assert (folder / PREVIEW_FILE).is_file()
    assert read_preview_colours(folder, 4) is None


DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "not a": lambda content: content.update(version=2),
    "4 latent channels": lambda content: content["weights"].pop(),
    "rows of three colours": lambda content: content["weights"][1].pop(),
    "of three colours": lambda content: content.update(weights=[0.0] * 5),
    "no weights": lambda content: content.pop("weights"),
    "finite": lambda content: content["weights"][0].__setitem__(0, float("nan")),
    "a finite number": lambda content: content["weights"][0].__setitem__(0, "7"),
}


@pytest.mark.parametrize("reason", DAMAGE)
def test_damage_is_told(folder: Path, reason: str) -> None:
    changed(folder, DAMAGE[reason])
    with pytest.raises(DamagedFileError, match=reason) as caught:
        read_preview_colours(folder, 4)
    assert "delete it" in str(caught.value)


def test_no_json_is_damage(folder: Path) -> None:
    (folder / PREVIEW_FILE).write_text('{"format": ')
    with pytest.raises(DamagedFileError, match="not valid JSON"):
        read_preview_colours(folder, 4)
