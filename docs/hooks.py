"""What MkDocs runs while it builds the book: generated pages, measured tables, references, formulas.

References come from `references.bib`, and a name with a year in the text becomes a link to its entry. Formulas become
MathML, which every browser draws itself, so no script has to be fetched.
"""

from __future__ import annotations

import html
import re
import unicodedata
from pathlib import Path
from typing import Any

import commands
import measured

import notebooks

BIBLIOGRAPHY = Path(__file__).parent / "references.bib"
_MARK = "<!-- references -->"
_ENTRY = re.compile(r"@(\w+)\{(\w+),\s*(.*)\}\s*$")
_FIELD = re.compile(r"(\w+)=\{([^{}]*)\}")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


_CITED = re.compile(r"(?<![\[\w-])([A-Z][\w-]+)((?: et al\.| & \w+)?) (19\d\d|20\d\d)\b(?![\w\]])")
_CODE = re.compile(r"(^```.*?^```|`[^`\n]*`|\]\([^)]*\))", re.MULTILINE | re.DOTALL)
_GENERATED = {"commands": commands.pages, "notebooks": notebooks.pages}


def on_config(config: Any, **_: Any) -> Any:
    """Put the generated pages into the navigation, where it has the name of their folder."""
    found = {folder: [page for page in made() if page.endswith(".md")] for folder, made in _GENERATED.items()}

    def filled(entry: Any) -> Any:
        if isinstance(entry, dict):
            return {title: filled(inner) for title, inner in entry.items()}
        if isinstance(entry, list):
            return [filled(inner) for inner in entry]
        return found.get(entry, entry)

    config.nav = filled(config.nav)
    return config


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Add the generated pages and their pictures."""
    from mkdocs.structure.files import File

    for made in _GENERATED.values():
        for place, content in made().items():
            files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put the references where a page asks for them, and links to them where they are cited."""
    bibliography = BIBLIOGRAPHY.read_text(encoding="utf-8")
    if _MARK in markdown:
        return markdown.replace(_MARK, "\n\n".join(listed(bibliography)))
    markdown = measured.filled(markdown)
    up = "../" * page.file.src_uri.count("/")
    return with_citations(markdown, keys(bibliography), f"{up}book/references.md")


def keys(bibliography: str) -> set[str]:
    """The names of all entries: "ho2020"."""
    return {found[2] for line in bibliography.splitlines() if (found := _ENTRY.match(line))}


def with_citations(markdown: str, known: set[str], references: str) -> str:
    """Text in which "Ho et al. 2020" is a link to its entry, outside code and other links."""

    def linked(found: re.Match[str]) -> str:
        key = citation_key(found[1], found[3])
        return f"[{found[0]}]({references}#{key})" if key in known else found[0]

    parts = _CODE.split(markdown)
    return "".join(part if place % 2 else _CITED.sub(linked, part) for place, part in enumerate(parts))


def citation_key(name: str, year: str) -> str:
    """The entry of a first author and a year."""
    return re.sub(r"\W", "", unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()) + year


def on_page_content(html: str, **_: Any) -> str:
    """Draw the formulas of a page."""
    return with_formulas(html)


def with_formulas(page: str) -> str:
    """HTML whose TeX formulas, as pymdownx.arithmatex marks them, are MathML."""
    from latex2mathml.converter import convert

    def drawn(found: re.Match[str]) -> str:
        return str(convert(html.unescape(found[3]).strip(), display="inline" if found[2] == "(" else "block"))

    return _FORMULA.sub(drawn, page)


def listed(bibliography: str) -> list[str]:
    """One Markdown paragraph for each BibTeX entry (one a line), by authors and year.

    Raises:
        ValueError: a line that is no entry, or one without author, title or year.
    """
    lines = []
    for line in filter(None, bibliography.splitlines()):
        if (found := _ENTRY.match(line)) is None:
            raise ValueError(f"not a BibTeX entry on one line: {line[:60]}")
        fields = dict(_FIELD.findall(found[3]))
        if missing := {"author", "title", "year"} - fields.keys():
            raise ValueError(f"{found[2]} lacks {', '.join(sorted(missing))}")
        where = fields.get("booktitle") or fields.get("journal", "")
        link = f" [arXiv:{fields['eprint']}](https://arxiv.org/abs/{fields['eprint']})" if "eprint" in fields else ""
        text = f"{_names(fields['author'])} ({fields['year']}): *{fields['title']}*. {where}.{link}"
        lines.append(f'<a id="{found[2]}"></a>{text}')
    return sorted(lines, key=lambda entry: entry.partition("</a>")[2])


def _names(authors: str) -> str:
    """ "Ho, Jonathan and Salimans, Tim" as "Ho, Salimans"; more than three as the first "et al."."""
    names = [author.split(",")[0].strip() for author in authors.split(" and ")]
    return f"{names[0]} et al." if len(names) > 3 or "others" in names else ", ".join(names)
