"""`rein evaluate`: its table, its errors, its interruption. The measuring itself is tested in `tests/evaluation`."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from rein.cli.evaluate import figures, measure, write_report_page
from rein.cli.progress import Meter
from rein.errors import InterruptedWork
from rein.evaluation.intervals import share, spread
from rein.evaluation.nearest import Closeness
from rein.evaluation.obedience import Measure
from rein.evaluation.report import Claims, Copying, Report
from rein.evaluation.run import EvaluationOptions
from rein.evaluation.subject import Subject
from tests.cli.conftest import Run
from tests.data.drawings import drawn_options

REPORT = Report(
    model="pocket",
    key="abc",
    versions={},
    settings={},
    claims=Claims(known=330, claimed=tuple(str(place) for place in range(300)), left_out=("x",), chosen_by="hand"),
    measures=(
        Measure("trained", "concept", "trained prompts: the thing", share(90, 100), share(98, 100), 0.8),
        Measure("held_out_style", "concept", "held-out pairs: the thing", share(1, 4), share(4, 4), 0.6),
        Measure("pair", "both", "both things", share(0, 0), share(0, 0), None),
    ),
    failing=(),
    reconstruction=spread([30.0, 31.0, 32.0]),
    copying=Copying(300, 0.1, (Closeness("drawn", {}, share(1, 50)),)),
    pictures=104,
    seconds=3.0,
)


def test_figures_stand_beside_their_intervals_and_floors() -> None:
    lines = figures(REPORT).splitlines()
    assert lines[0].split("  ")[0] == "ASKED AND SEEN BY THE JUDGE"
    assert lines[1].split() == [
        *("trained", "prompts:", "the", "thing", "90.0%", "82.6%", "to", "94.5%", "100", "98.0%", "80%", "reached")
    ]
    assert lines[2].endswith("60% missed")
    assert lines[3].split()[-1] == "0.0%"
    assert lines[4] == "claimed: 300 of 330 concepts"
    assert lines[5].startswith("autoencoder: 31.00 dB PSNR (")
    assert lines[6].startswith("near-copies, drawn: 2.0% (")


def test_a_page_shows_the_figures_and_the_sheets(tmp_path: Path) -> None:
    for name in ("sheet.png", "nearest.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    write_report_page(REPORT, tmp_path)
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png;base64,") == 2 and page.count("<svg") == 1
    assert "trained prompts: the thing 0.9 (0.8256 to 0.9448), 0.98 (" in page, "said to those who cannot see the plot"
    assert "82.6% to 94.5%" in page and "Nearest training pictures" in page


def test_an_interrupt_says_that_the_pictures_are_kept(tmp_path: Path) -> None:
    def draw(prompts: list[str], seeds: list[int]) -> list[Image.Image]:
        if list(tmp_path.rglob("drawn-*/*.png")):
            raise KeyboardInterrupt
        return [Image.new("RGB", (32, 32)) for _ in prompts]

    options = EvaluationOptions(drawn_options(tmp_path), tmp_path / "out", {"trained": 12})
    with pytest.raises(InterruptedWork, match="drawn so far are kept in .*out: the same command goes on from there"):
        measure(Subject(draw, None, "name", "key"), options, Meter())
    assert len(list((tmp_path / "out").rglob("*.png"))) == options.batch_size


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--steps 0", "steps is 0: it must be a whole number from 1 to 1000"),
        ("--steps x", "Invalid value for '--steps': 'x' is not a whole number"),
        ("--concepts 0", "concept_count is 0; it must be from 1 to"),
        ("--device tpu", "unknown device 'tpu'"),
        (
            "--card nowhere/README.md",
            "--card is 'nowhere/README.md': give the name of a file in a folder that is there",
        ),
    ],
)
def test_a_wrong_call_is_refused_before_anything_is_made(rein: Run, tiny: str, options: str, reason: str) -> None:
    done = rein("evaluate", tiny, "--output", "out", "--art", "art", *options.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"rein: error: {reason}")
    assert done.err.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_an_unknown_model_is_refused(rein: Run) -> None:
    done = rein("evaluate", "pockt")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("rein: error: unknown model 'pockt': did you mean 'pocket'?")
