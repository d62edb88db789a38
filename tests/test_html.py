"""Pages: escaped, whole, and charts whose points are where their numbers say."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rein.errors import OutputError
from rein.html import (
    Axis,
    Markup,
    Page,
    Series,
    chart,
    data_uri,
    join,
    picture,
    power,
    section,
    table,
    tag,
    text,
    write_page,
)

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1))


def dots(svg: str) -> list[tuple[float, float, str]]:
    found = parsed(svg).iter(f"{SVG}circle")
    return [(float(dot.attrib["cx"]), float(dot.attrib["cy"]), dot.attrib["data-step"]) for dot in found]


@given(st.text())
def test_text_comes_back_and_holds_no_markup(value: str) -> None:
    shown = text(value)
    assert "<" not in shown and ">" not in shown and '"' not in shown
    expected = "".join(sign if sign >= " " or sign in "\n\t" else "\ufffd" for sign in value)
    found = (
        ElementTree.fromstring(f"<p>{shown}</p>").text or "" if "\ufffe" not in value and "\uffff" not in value else ""
    )
    assert found in ("", expected)


def test_halves_of_surrogate_pairs_do_not_stop_a_page() -> None:
    assert text("a\ud800b") == "a?b"


def test_elements() -> None:
    assert tag("p", "a < b", class_="x", data_step=3, hidden=True, id=None, lang=False) == (
        '<p class="x" data-step="3" hidden>a &lt; b</p>'
    )
    assert tag("img", src='"><script>') == '<img src="&quot;&gt;&lt;script&gt;">'
    assert tag("meta", name="viewport") == '<meta name="viewport">'
    assert tag("line", x1=1) == '<line x1="1"></line>'
    assert tag("p", tag("b", "x"), None, "&") == "<p><b>x</b>&amp;</p>"
    assert isinstance(join(["<", Markup("<br>")]), Markup)
    assert join(["<", Markup("<br>")], " ") == "&lt; <br>"


def test_tables_and_pictures() -> None:
    assert "<td>&lt;</td>" in table(("a",), [("<",)])
    assert picture(b"abc", "three letters") == '<img src="data:image/png;base64,YWJj" alt="three letters">'
    assert data_uri(b"abc", "image/webp").startswith("data:image/webp;base64,")


def test_a_page_is_whole_and_written_whole(tmp_path: Path) -> None:
    page = Page("A & B", "what & why")
    page.add(section("1", "First", tag("p", "said"), anchor="first"))
    write_page(page, tmp_path / "page.html")
    written = (tmp_path / "page.html").read_bytes().decode("utf-8")
    assert written == page.render()
    assert written.startswith('<!doctype html>\n<html lang="en-GB">')
    assert "<title>A &amp; B</title>" in written and "<h1>A &amp; B</h1>" in written
    assert '<section class="part" id="first">' in written
    assert "width=device-width" in written and "prefers-color-scheme:dark" in written and "@media print" in written
    with pytest.raises(OutputError, match="its folder does not exist"):
        write_page(page, tmp_path / "missing" / "page.html")


def test_points_carry_their_step_only_where_slides_have_it() -> None:
    assert "data-step" not in chart(
        [Series("a", [(0, 1)], "dots"), Series("b", [(0, 1)], "bars")], Axis("x"), Axis("y")
    )


def test_ticks_of_a_short_logarithmic_axis() -> None:
    svg = chart([Series("a", [(0, 0.6), (1, 3.0)])], Axis("x"), Axis("y", log=True))
    assert {"1", "2"} <= {element.text for element in parsed(svg).iter(f"{SVG}text")}
    assert [power(value) for value in (1e-6, 0.01, 1.0, 100.0, 1e4, 2e6)] == ["1e-6", "0.01", "1", "100", "1e4", "2e6"]


def test_points_of_a_chart_are_in_proportion() -> None:
    found = dots(chart([Series("a", [(0, 0), (5, 1), (10, 4)], "dots", True)], Axis("x"), Axis("y")))
    (x0, y0, _), (x1, y1, _), (x2, y2, step) = found
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert (y0 - y1) * 4 == pytest.approx(y0 - y2, abs=0.5)
    assert step == "2"


def test_a_logarithmic_axis_has_equal_distances_for_equal_ratios() -> None:
    svg = chart([Series("a", [(1, 0.01), (2, 1.0), (3, 100.0)], "dots", True)], Axis("x"), Axis("y", log=True))
    (_, y0, _), (_, y1, _), (_, y2, _) = dots(svg)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    labels = [element.text for element in parsed(svg).iter(f"{SVG}text")]
    assert {"0.01", "1", "100"} <= set(labels)


def test_what_cannot_be_drawn_is_left_out_and_keeps_its_number() -> None:
    points = [(1, float("nan")), (2, 1.0), (3, float("inf")), (4, 0.0), (5, 10.0)]
    assert [step for *_, step in dots(chart([Series("a", points, "dots", True)], Axis("x"), Axis("y", log=True)))] == [
        "1",
        "4",
    ]
    assert dots(chart([Series("a", [], "dots", True)], Axis("x"), Axis("y", log=True))) == []
    assert dots(chart([Series("a", [(1, 2.0)], "dots", True)], Axis("x"), Axis("y")))[0][:2] != (0, 0)


def test_bars_stand_on_the_floor() -> None:
    svg = chart([Series("a", [(1, 10.0), (2, 5.0), (3, 0.0)], "bars", True)], Axis("x"), Axis("y", low=0))
    bars = [bar.attrib for bar in parsed(svg).iter(f"{SVG}rect")]
    floors = [float(bar["y"]) + float(bar["height"]) for bar in bars]
    assert floors == pytest.approx([floors[0]] * 3, abs=0.2)
    assert float(bars[0]["height"]) == pytest.approx(2 * float(bars[1]["height"]), abs=0.2)
    assert float(bars[2]["height"]) == 0


def test_a_second_scale_reads_the_same_curve() -> None:
    right = Axis("twice", shown=lambda value: f"r{2 * value:g}")
    svg = chart([Series("a", [(0, 0), (1, 10)])], Axis("x"), Axis("y"), right)
    labels = [element.text for element in parsed(svg).iter(f"{SVG}text")]
    assert "r20" in labels and "10" in labels


def test_two_series_have_a_legend_and_one_has_none() -> None:
    one, two = Series("one", [(0, 1)]), Series("two", [(0, 2)])
    assert "keys" not in chart([one], Axis("x"), Axis("y"))
    assert re.findall(r'key c\d">(\w+)', chart([one, two], Axis("x"), Axis("y"))) == ["one", "two"]


@given(
    st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)), max_size=8),
    st.sampled_from(["line", "dots", "both", "bars"]),
    st.booleans(),
)
def test_any_numbers_can_be_drawn(points: list[tuple[float, float]], style: str, log: bool) -> None:
    svg = parsed(chart([Series("a", points, style)], Axis("x"), Axis("y", log=log)))
    for element in svg.iter(f"{SVG}circle"):
        assert 0 <= float(element.attrib["cx"]) <= 420 and 0 <= float(element.attrib["cy"]) <= 230
