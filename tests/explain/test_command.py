"""`rein explain` as a person calls it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.explain.conftest import Run, nearly_full


def last(out: str) -> Path:
    return Path(out.splitlines()[-1])


def test_it_writes_the_page_and_says_where(rein: Run, tiny: str, tmp_path: Path) -> None:
    options = ("--model", tiny, "--steps", 2, "--seed", 7)
    done = rein("explain", "A red apple!", *options, "--what-if", "none")
    assert (done.code, done.err) == (0, "")
    assert last(done.out) == Path("explained/a-red-apple-7.html")
    page = last(done.out).read_text(encoding="utf-8")
    assert rein("generate", "A red apple!", *options, "-o", "apple.png").code == 0
    assert base64.b64encode((tmp_path / "apple.png").read_bytes()).decode() in page


def test_nothing_is_replaced(rein: Run, tiny: str) -> None:
    options = ("explain", "", "--model", tiny, "--steps", 1, "--seed", 7, "--what-if", "none")
    assert last(rein(*options).out) == Path("explained/picture-7.html")
    assert last(rein(*options).out) == Path("explained/picture-7-1.html")
    assert last(rein(*options, "-o", "page.html").out) == Path("page.html")
    assert last(rein(*options, "-o", "page.html").out) == Path("page-1.html")


def test_traces_are_written_and_compared(rein: Run, tiny: str) -> None:
    options = ("--model", tiny, "--steps", 3, "--seed", 7, "--what-if", "none")
    for name, more in (("one", ()), ("two", ("--guidance", 2))):
        done = rein("explain", "an apple", *options, "--trace", name, *more)
        assert done.out.splitlines()[0] == f"trace: {name}.safetensors, {name}.json"
    assert json.loads(Path("one.json").read_text())["format"] == "rein-trace"
    done = rein("explain", "--diff", "one", "two.json")
    lines = done.out.splitlines()
    assert done.code == 0
    assert lines[0] == "guidance_scale: 4.0 | 2.0"
    assert re.match(r"step +noise level +before +latents +denoised +wanted +unwanted", lines[1])
    assert [line.split()[0] for line in lines[2:5]] == ["1", "2", "3"]
    assert lines[5].startswith("They part at step 1, noise level")
    assert Path(lines[6]).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert rein("explain", "--diff", "one", "one").out.splitlines()[-2] == "The two traces are equal to the last bit."


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "there is no prompt"),
        (("an owl", "--what-if", "colour"), "unknown strip 'colour'"),
        (("an owl", "-o", "owl.png"), "--output is 'owl.png': a page needs a name that ends in .html"),
        (("an owl", "-o", "no/owl.html"), "cannot write no/owl.html: its folder does not exist"),
        (("an owl", "--trace", "no/owl"), "cannot write no/owl.safetensors: its folder does not exist"),
        (("an owl", "--trace", ""), "--trace is ''"),
        (("an owl", "--steps", "0"), "steps is 0"),
        (("an owl", "--sampler", "eulr"), "unknown sampler 'eulr': did you mean 'euler'"),
        (("--diff", "one", "two"), "there is no trace one.json"),
        (("an owl", "--diff", "one", "two"), "a prompt and --diff do not go together"),
    ],
)
def test_wrong_calls_are_said_in_one_line_and_leave_nothing(
    rein: Run, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = rein("explain", *arguments)
    assert done.code in (1, 2)
    assert len(done.err.splitlines()) == 1 and said in done.err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_prompt_of_ten_thousand_words_is_refused_in_one_line(rein: Run, tiny: str, tmp_path: Path) -> None:
    done = rein("explain", "apple " * 10_000, "--model", tiny, "--steps", 1)
    assert done.code == 2
    assert len(done.err.splitlines()) == 1 and "too long" in done.err
    assert list(tmp_path.rglob("*.html")) == []


def test_a_full_disk_is_said_in_one_line_and_leaves_nothing(rein: Run, tiny: str, tmp_path: Path) -> None:
    with nearly_full(20_000):
        done = rein("explain", "an apple", "--model", tiny, "--steps", 1, "--what-if", "none")
    assert done.code == 1
    assert len(done.err.splitlines()) == 1 and "cannot write explained/an-apple" in done.err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_picture_to_start_from_is_explained(rein: Run, tiny: str, picture: Path, mask: Path, tmp_path: Path) -> None:
    given = ("--init", picture, "--strength", 0.5, "--mask", mask, "--fill", "noise", "--set", "guidance_rescale=0.5")
    options = ("an apple", "--model", tiny, "--steps", 4, "--seed", 7, *given)
    done = rein("explain", *options, "-o", "apple.html", "--what-if", "strength")
    assert (done.code, done.err) == (0, "")
    page = (tmp_path / "apple.html").read_text(encoding="utf-8")
    assert rein("generate", *options, "-o", "apple.png").code == 0
    assert base64.b64encode((tmp_path / "apple.png").read_bytes()).decode() in page
    assert "What it was given besides the words" in page and "strength 0.9" in page


@pytest.mark.parametrize("option", ["--hires", "--loops", "--outpaint", "--count"])
def test_what_takes_several_passes_is_no_option(rein: Run, option: str) -> None:
    done = rein("explain", "an owl", option, "2")
    assert done.code == 2 and f"No such option: {option}" in done.err and len(done.err.splitlines()) == 1


@pytest.mark.slow
def test_a_thousand_steps_are_thinned_out(rein: Run, tiny: str, tmp_path: Path) -> None:
    options = ("--model", tiny, "--steps", 1000, "--seed", 7, "--what-if", "none", "--trace", "long")
    done = rein("explain", "an apple", *options, "-o", "long.html")
    assert done.code == 0
    assert "24 of the 1000 steps are shown here" in (tmp_path / "long.html").read_text(encoding="utf-8")
    assert (tmp_path / "long.html").stat().st_size < 5_000_000
    facts = json.loads((tmp_path / "long.json").read_text())
    assert (len(facts["steps"]), len(facts["kept"])) == (1000, 48)


WIDTHS = (390, 1280)
VISIT = """<body>FRAMES<pre></pre><script>
onload=function(){var all=[].map.call(document.querySelectorAll('iframe'),function(frame){
var page=frame.contentDocument,said={};
LOOK
said.parts=[].map.call(page.querySelectorAll('section[id]'),function(s){return s.offsetHeight>80&&s.id});
said.width=page.documentElement.scrollWidth;
said.broken=[].filter.call(page.images,function(i){return !i.naturalWidth}).length;
said.network=frame.contentWindow.performance.getEntriesByType('resource').filter(function(r){
return !/^(data|file):/.test(r.name)}).length;
return said});
document.querySelector('pre').textContent='SAID'+JSON.stringify(all)+'DIAS'}
</script>"""
SLIDES = """var range=page.querySelector('.slides input'),slides=page.querySelectorAll('.slide');
function seen(){return [].filter.call(slides,function(s){return s.offsetParent!==null}).map(function(s){
return s.dataset.step})}
said.first=seen();range.value=1;range.dispatchEvent(new Event('input'));said.moved=seen();
said.marked=[].map.call(page.querySelectorAll('svg .now'),function(m){return m.dataset.step});"""
DRAWINGS = """said.drawn=[].map.call(page.querySelectorAll('svg.network'),function(s){
var box=s.getBoundingClientRect();return [box.width>300,box.height>150,s.querySelectorAll('.box').length>3]});"""

in_chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium")


def visited(page: Path, look: str, folder: Path) -> list[dict[str, Any]]:
    """What a browser says of a page at each of `WIDTHS`, with more that `look` finds out. It must be whole."""
    frames = "".join(
        f'<iframe src="{page.as_uri()}" style="width:{width}px;height:900px"></iframe>' for width in WIDTHS
    )
    visit = folder / "visit.html"
    visit.write_text(VISIT.replace("FRAMES", frames).replace("LOOK", look))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    options += ["--disable-background-networking", "--disable-component-update", "--allow-file-access-from-files"]
    options += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=4000", "--dump-dom", visit.as_uri()]
    shown = subprocess.run(["chromium", *options], capture_output=True, text=True, timeout=300, check=False).stdout
    found = re.search(r"SAID(\[.*\])DIAS", shown)
    assert found is not None
    all_said: list[dict[str, Any]] = json.loads(found[1])
    for said, width in zip(all_said, WIDTHS, strict=True):
        assert said["width"] <= width  # nothing makes the page itself go sideways
        assert (said["broken"], said["network"]) == (0, 0)
    return all_said


@in_chromium
def test_a_browser_finds_every_part_and_moves_the_slider(
    rein: Run, tiny: str, picture: Path, mask: Path, tmp_path: Path
) -> None:
    options = ("--model", tiny, "--steps", 6, "--seed", 7, "--what-if", "word", "--init", picture, "--mask", mask)
    done = rein("explain", "a red apple", *options, "--strength", 0.5)
    parts = ["words", "tokens", "text-tower", "given", "noise", "schedule", "steps", "guidance", "attention", "decoder"]
    for said in visited(tmp_path / last(done.out), SLIDES, tmp_path):
        assert said["parts"] == [*parts, "picture"]
        assert (said["first"], said["moved"]) == (["2"], ["1"])
        assert set(said["marked"]) == {"1"}
        assert len(said["marked"]) >= 5


@in_chromium
def test_a_browser_shows_the_networks(rein: Run, tiny: str, tmp_path: Path) -> None:
    done = rein("explain", "--model", tiny)
    for said in visited(tmp_path / last(done.out), DRAWINGS, tmp_path):
        assert said["parts"] == ["networks", "unet", "autoencoder", "text-tower", "discriminator"]
        assert said["drawn"] == [[True, True, True]] * 4
