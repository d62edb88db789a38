"""What MkDocs runs while it builds the book: the list of references, from `references.bib`, and formulas as MathML.

MathML is drawn by every browser itself, so no script has to be fetched.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

BIBLIOGRAPHY = Path(__file__).parent / "references.bib"
_MARK = "<!-- references -->"
_ENTRY = re.compile(r"@(\w+)\{(\w+),\s*(.*)\}\s*$")
_FIELD = re.compile(r"(\w+)=\{([^{}]*)\}")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put the references where a page asks for them."""
    return markdown.replace(_MARK, "\n\n".join(listed(BIBLIOGRAPHY.read_text(encoding="utf-8"))))


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
