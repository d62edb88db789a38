import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rein.data.icons import IconArt
from rein.errors import DamagedFileError, InputError
from rein.evaluation.intervals import share, spread
from rein.evaluation.nearest import closeness
from rein.evaluation.obedience import Failing, Measure, questions
from rein.evaluation.report import (
    BEGIN,
    END,
    Claims,
    Copying,
    Report,
    card_section,
    picture_sheet,
    read_report,
    write_card_section,
    write_report,
)

REPORT = Report(
    model="pocket",
    key="0123456789abcdef",
    versions={"rein": "0.1"},
    settings={"steps": "20", "guidance": "4"},
    claims=Claims(330, ("cat", "dog"), ("yo-yo",), "all that it was trained on"),
    measures=(
        Measure("trained", "concept", "trained prompts: the thing", share(337, 400), share(396, 400), 0.8),
        Measure("held_out_pair", "concept", "two things", share(97, 200), share(191, 200), 0.5),
        Measure("pair", "style", "the style", share(50, 60), share(60, 60), None),
    ),
    failing=(Failing("yo-yo", 0, 4, "coin"),),
    reconstruction=spread([30.0, 31.0, 33.5]),
    copying=Copying(20_000, 0.031, (closeness("drawn", np.array([0.02, 0.2], dtype=np.float32), 0.031),)),
    pictures=660,
    seconds=61.5,
)


def test_a_report_survives_its_file(tmp_path: Path) -> None:
    write_report(REPORT, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == REPORT
    plain = json.loads((tmp_path / "report.json").read_text())
    assert plain["measures"][0]["drawn"] == {
        "right": 337,
        "total": 400,
        **{k: plain["measures"][0]["drawn"][k] for k in ("rate", "low", "high")},
    }
    bare = replace(REPORT, reconstruction=None, copying=None, failing=())
    write_report(bare, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == bare


def test_a_file_that_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no report"):
        read_report(tmp_path / "report.json")
    for content in ("", "{}", '{"model": 1}'):
        (tmp_path / "report.json").write_text(content)
        with pytest.raises(DamagedFileError, match="is not a report of this version"):
            read_report(tmp_path / "report.json")


def test_a_figure_by_name() -> None:
    assert REPORT.measure("held_out_pair", "concept").drawn.right == 97
    with pytest.raises(KeyError, match="plain/concept"):
        REPORT.measure("plain", "concept")


def test_the_section_says_what_was_measured() -> None:
    text = card_section(REPORT)
    assert "| trained prompts: the thing | 84.2% | 80.4 to 87.5 | 400 | 99.0% | 80%, reached |" in text
    assert "| two things | 48.5% | 41.7 to 55.4 | 200 | 95.5% | 50%, missed |" in text
    assert "| the style | 83.3% | 72.0 to 90.7 | 60 | 100.0% |  |" in text
    assert "steps 20, guidance 4" in text and "Claimed concepts: 2 of 330" in text and "Not claimed: yo-yo." in text
    assert "yo-yo (0 of 4, taken for coin)" in text
    assert "PSNR 31.50 dB" in text and "5% of them are below 30.10 dB" in text
    assert "| drawn | 0.029 | 0.065 | 0.110 | 0.155 | 0.191 | 50.0% (9.5 to 90.5) | 2 |" in text


def test_parts_that_were_not_measured_are_not_mentioned() -> None:
    text = card_section(replace(REPORT, reconstruction=None, copying=None, failing=()))
    assert "PSNR" not in text and "near-copies" not in text and "Least often" not in text


def test_the_card_keeps_everything_else(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text(f"# Pocket\n\nBefore.\n\n{BEGIN}\nold figures\n{END}\n\nAfter: größer.\n", encoding="utf-8")
    write_card_section(card, REPORT)
    text = card.read_text(encoding="utf-8")
    assert text.startswith("# Pocket\n\nBefore.\n\n" + BEGIN) and text.endswith(END + "\n\nAfter: größer.\n")
    assert "old figures" not in text and card_section(REPORT) in text
    write_card_section(card, REPORT)
    assert card.read_text(encoding="utf-8") == text


def test_a_card_without_markers_gets_them_at_its_end(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    write_card_section(card, REPORT)
    assert card.read_text().startswith(BEGIN)
    card.write_text("# Pocket")
    write_card_section(card, REPORT)
    assert card.read_text() == f"# Pocket\n\n{BEGIN}\n{card_section(REPORT)}{END}\n"


@pytest.mark.parametrize("text", [BEGIN, END, f"{END} {BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"])
def test_a_card_with_half_the_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    card = tmp_path / "README.md"
    card.write_text(text)
    with pytest.raises(InputError, match="once each"):
        write_card_section(card, REPORT)
    assert card.read_text() == text


def test_the_sheet_is_half_held_out(art: IconArt) -> None:
    asked = questions(
        art, range(16), {"trained": 30, "held_out_style": 5, "colour": 0, "pair": 0, "held_out_colour": 0}
    )
    reds = np.zeros((len(asked), 64, 64, 3), dtype=np.uint8)
    reds[..., 0] = np.where([q.group.startswith("held_out") for q in asked], 250, 10)[:, None, None]
    sheet = np.array(picture_sheet(asked, reds, ("held_out_style", "held_out_pair"), count=16))
    # The first row of eight is of trained prompts, the second of held-out ones.
    assert sheet[20, 20].tolist() == [10, 0, 0] and sheet[20, 500].tolist() == [10, 0, 0]
    held = (sheet == (250, 0, 0)).all(axis=2).sum() / 64**2
    trained = (sheet == (10, 0, 0)).all(axis=2).sum() / 64**2
    assert held == trained == 8
