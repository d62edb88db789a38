"""The book is true: its code runs, its commands exist, its references are complete."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import rein.cli  # noqa: F401 - registers the commands
from rein.cli.app import app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
BOOK = sorted((DOCS / "book").glob("*.md"))
RUN = [*BOOK, *sorted((DOCS / "extend").glob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PLACEHOLDER = re.compile(r"^[A-Z][A-Z0-9_:|.\[\]-]*$")


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in _BLOCK.findall(page.read_text(encoding="utf-8")) if language in languages]


def commands(page: Path) -> list[list[str]]:
    """The calls of `rein` in a page's shell blocks."""
    found = []
    for block in blocks(page, "sh", "bash", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words and words[0] == "rein":
                cut = next((place for place, word in enumerate(words) if word in ("|", ">", "&&", ";")), None)
                found.append(words[1:cut])
    return found


def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", [page for page in RUN if blocks(page, "python")], ids=lambda page: page.stem)
def test_the_code_of_the_book_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": page.stem}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_the_commands_of_the_docs_exist(page: Path) -> None:
    for words in commands(page):
        command: Any = typer.main.get_command(app)
        rest = list(words)
        while hasattr(command, "commands"):
            assert rest, f"{page.name}: rein {' '.join(words)} names no command"
            name = rest.pop(0)
            assert name in command.commands, f"{page.name}: rein {' '.join(words)}: there is no {name!r}"
            command = command.commands[name]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        given = {word.partition("=")[0] for word in rest if re.match(r"--?[a-zA-Z]", word)}
        assert given <= known | {"--help", "-h"}, f"{page.name}: rein {' '.join(words)}"


def test_every_citation_is_in_the_list_of_references() -> None:
    module = hooks()
    entries = module.listed(module.BIBLIOGRAPHY.read_text(encoding="utf-8"))
    known = {re.sub(r"<a id=\"(\w+)\".*", r"\1", entry) for entry in entries}
    assert len(known) == len(entries) > 20
    cited = set()
    for page in BOOK:
        for name, year in re.findall(r"([A-Z]\w+)(?: et al\.| & \w+)? (19\d\d|20\d\d)\b", page.read_text("utf-8")):
            cited.add(name.lower().replace("ń", "n") + year)
    assert cited - known == set()
    assert len(cited) > 20


def test_a_wrong_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks year"):
        hooks().listed("@article{a1, author={A, B}, title={T}}")
    with pytest.raises(ValueError, match="not a BibTeX entry"):
        hooks().listed("nonsense")


def test_links_and_pictures_of_the_docs_are_there() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://", "mailto:")):
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"


def test_formulas_become_mathml() -> None:
    page = '<p><span class="arithmatex">\\(x_0 &lt; 1\\)</span></p><div class="arithmatex">\\[\n\\frac{a}{b}\n\\]</div>'
    drawn = hooks().with_formulas(page)
    assert "arithmatex" not in drawn
    assert drawn.count("<math") == 2
    assert "<mfrac>" in drawn and 'display="block"' in drawn
