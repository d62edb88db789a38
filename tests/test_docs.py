"""The book is true: its code runs, its commands exist, its references are complete, its pages are the program's."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

from rein.nn.upscaler import SRVGGConfig, SRVGGNet

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
BOOK = sorted((DOCS / "book").glob("*.md"))
GUIDES = [DOCS / f"{name}.md" for name in ("changing", "data", "judge", "larger", "prompts", "sheets")]
RUN = [*BOOK, *sorted((DOCS / "extend").glob("*.md")), *GUIDES]


def script(name: str) -> ModuleType:
    """A module of docs/, imported as MkDocs and `make figures` do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        return importlib.import_module(name)


def blocks(page: Path, *languages: str) -> list[str]:
    found: list[str] = script("commands").blocks(page.read_text(encoding="utf-8"), *languages)
    return found


def commands(page: Path) -> list[list[str]]:
    """The calls of `rein` in a page's shell blocks."""
    found: list[list[str]] = script("commands").calls(page.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("page", [page for page in RUN if blocks(page, "python")], ids=lambda page: page.stem)
def test_the_code_of_the_book_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if page.stem == "larger":  # it names a file that is not part of Rein
        network = SRVGGNet(SRVGGConfig(width=4, layers=1, scale=4))
        torch.save({"params": network.state_dict()}, "RealESRGAN_x4plus.pth")
    names: dict[str, object] = {"__name__": page.stem}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_the_commands_of_the_docs_exist(page: Path) -> None:
    for words in commands(page):
        _, command, rest = script("commands").meant(words)
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        given = {word.partition("=")[0] for word in rest if re.match(r"--?[a-zA-Z]", word)}
        assert given <= known | {"--help", "-h"}, f"{page.name}: rein {' '.join(words)}"


def test_a_command_that_there_is_not_is_named() -> None:
    with pytest.raises(ValueError, match="rein paint it names no command"):
        script("commands").meant(["paint", "it"])
    assert script("commands").meant(["evaluate", "pocket"])[0] == ("evaluate", "obedience")


def test_every_citation_is_in_the_list_of_references() -> None:
    module = script("hooks")
    bibliography = module.BIBLIOGRAPHY.read_text(encoding="utf-8")
    entries, known = module.listed(bibliography), module.keys(bibliography)
    assert len(known) == len(entries) > 20
    cited = set()
    for page in BOOK:
        for name, year in re.findall(r"([A-Z][\w-]+)(?: et al\.| & \w+)? (19\d\d|20\d\d)\b", page.read_text("utf-8")):
            cited.add(module.citation_key(name, year))
    assert cited - known == set()
    assert len(cited) > 20


def test_citations_become_links_outside_code_and_links() -> None:
    linked = script("hooks").with_citations
    known = {"ho2022", "binkowski2018"}
    assert linked("as in Ho & Salimans 2022.", known, "r.md") == "as in [Ho & Salimans 2022](r.md#ho2022)."
    assert linked("(Bińkowski et al. 2018)", known, "r.md") == "([Bińkowski et al. 2018](r.md#binkowski2018))"
    for text in ("`Ho & Salimans 2022`", "[Ho & Salimans 2022](x)", "```text\nHo & Salimans 2022\n```", "Spring 2022"):
        assert linked(text, known, "r.md") == text


def test_a_wrong_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks year"):
        script("hooks").listed("@article{a1, author={A, B}, title={T}}")
    with pytest.raises(ValueError, match="not a BibTeX entry"):
        script("hooks").listed("nonsense")


def test_links_and_pictures_of_the_docs_are_there() -> None:
    made = {DOCS / place for name in ("commands", "notebooks") for place in script(name).pages()}
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://", "mailto:")):
                found = (page.parent / target).resolve()
                assert found in made or found.exists(), f"{page.relative_to(ROOT)}: {target}"


def test_formulas_become_mathml() -> None:
    page = '<p><span class="arithmatex">\\(x_0 &lt; 1\\)</span></p><div class="arithmatex">\\[\n\\frac{a}{b}\n\\]</div>'
    drawn = script("hooks").with_formulas(page)
    assert "arithmatex" not in drawn
    assert drawn.count("<math") == 2
    assert "<mfrac>" in drawn and 'display="block"' in drawn


def test_every_command_has_a_page_with_all_that_its_help_says() -> None:
    module = script("commands")
    pages, found = module.pages(), list(module.leaves())
    assert len(pages) == len(found) + 1 > 12
    for names, command in found:
        page = pages[f"commands/{'-'.join(names)}.md"]
        assert page.startswith(f"# rein {' '.join(names)}\n")
        assert f"[`rein {' '.join(names)}`]({'-'.join(names)}.md)" in pages["commands/index.md"]
        for option in (name for entry in command.params for name in entry.opts if entry.param_type_name == "option"):
            assert option in page, f"{names}: {option}"
    generate = pages["commands/generate.md"]
    assert "## Examples\n\n```sh\nrein generate " in generate
    assert "[7. Use](../book/use.md):\n\n```sh\nrein generate" in generate


def test_examples_in_the_help_name_options_that_there_are(tmp_path: Path) -> None:
    for place, text in script("commands").pages().items():
        page = tmp_path / Path(place).name
        page.write_text(text, encoding="utf-8")
        test_the_commands_of_the_docs_exist(page)


def test_tables_of_what_was_measured() -> None:
    module = script("measured")
    table = module.filled("<!-- measured: steps -->")
    assert table.splitlines()[0].startswith("| steps | 1 | 2 |")
    assert len(table.splitlines()) == 2 + len(module.GROUPS)
    first = module.obeyed("guidance", "trained")[0]
    assert first["guidance"] == 1 and first["steps"] == module.measured()["steps"]
    with pytest.raises(KeyError, match="nothing"):
        module.filled("<!-- measured: nothing -->")
    marks = [name for page in PAGES for name in re.findall(r"<!-- measured: (\w+) -->", page.read_text("utf-8"))]
    assert sorted(marks) == ["distance", "guidance", "steps", "teaching"]


def test_the_table_of_what_was_taught_has_all_that_was_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = script("measured")
    kept = json.loads(module.TAUGHT.read_text(encoding="utf-8"))
    rows = module.filled("<!-- measured: teaching -->").splitlines()[2:]
    assert len(rows) >= len(kept) and any("a word, 4 pictures" in row for row in rows)
    share = {"rate": 0.875, "low": 0.6, "high": 0.95}
    told = {"minutes": 1.2, "recognised": share, "class drift": 3.25}
    monkeypatch.setattr(module, "TAUGHT", tmp_path / "teaching.json")
    module.TAUGHT.write_text(json.dumps({"dreambooth": {"all weights": told}}), encoding="utf-8")
    assert "| 1.2 | recognised in 88%; drift of the class (KID) 3.2 |" in module.filled("<!-- measured: teaching -->")


def test_every_figure_that_a_page_shows_is_made_by_a_script() -> None:
    made = {f"book-{name}" for name in script("figures").FIGURES}
    shown = {
        Path(link).stem for page in BOOK for link in re.findall(r"\]\(\S*?(book-[\w.-]+)\)", page.read_text("utf-8"))
    }
    assert shown == made
