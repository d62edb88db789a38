"""A page for each command of `rein`, made from the program itself, so that both say the same."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
_BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ENDS = ("|", ">", "&&", ";")


def blocks(text: str, *languages: str) -> list[str]:
    """The code blocks of a page in any of some languages."""
    return [block for language, block in _BLOCK.findall(text) if language in languages]


def calls(text: str) -> list[list[str]]:
    """The arguments of each call of `rein` in a page's shell blocks."""
    found = []
    for block in blocks(text, "sh", "bash", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words and words[0] == "rein":
                cut = next((place for place, word in enumerate(words) if word in _ENDS), None)
                found.append(words[1:cut])
    return found


@cache
def program() -> Any:
    """The command line, as typer makes it."""
    import typer

    import rein.cli  # noqa: F401 - registers the commands
    from rein.cli.app import app

    return typer.main.get_command(app)


def meant(call: Sequence[str]) -> tuple[tuple[str, ...], Any, list[str]]:
    """The command that a call means: its names, itself, and the words after its name.

    Raises:
        ValueError: there is no such command.
    """
    command, names, rest = program(), (), list(call)
    while hasattr(command, "commands"):
        usual = getattr(command, "usual", None)  # of some groups, the command that is meant where none is named
        name = rest.pop(0) if rest and rest[0] in command.commands else usual
        if name is None:
            raise ValueError(f"rein {' '.join(call)} names no command")
        command, names = command.commands[name], (*names, name)
    return names, command, rest


def leaves(group: Any = None, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with its names: ("models", "inspect")."""
    for name, command in (group or program()).commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from leaves(command, (*names, name))
        else:
            yield (*names, name), command


def pages() -> dict[str, str]:
    """Markdown by the place of each page in the docs."""
    found = list(leaves())
    rows = [f"| [`rein {' '.join(names)}`]({'-'.join(names)}.md) | {_first(command)} |" for names, command in found]
    index = "\n".join(["# Commands", "", *_ABOUT, "", "| command | what it does |", "|---|---|", *rows, ""])
    seen = _used()
    made = {f"commands/{'-'.join(names)}.md": _page(names, command, seen.get(names, {})) for names, command in found}
    return {"commands/index.md": index, **made}


_ABOUT = (
    "`rein --help` lists the commands, `rein COMMAND --help` says what stands on these pages, which are made from the",
    "program. Exit codes, of all of them: 0 done, 1 the work failed, 2 the call was wrong, 130 stopped by Ctrl-C.",
    "What goes wrong is said in one line; `rein --traceback COMMAND ...` shows where in the code it arose.",
)


def _first(command: Any) -> str:
    return escape((command.help or "").strip().splitlines()[0], quote=False)


def _page(names: tuple[str, ...], command: Any, used: Mapping[str, list[str]]) -> str:
    context = command.context_class(command, info_name=f"rein {' '.join(names)}")
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [
        f"# rein {' '.join(names)}",
        "",
        *_text(command.help),
        "",
        "```text",
        f"rein {' '.join(names)} {usage}",
        "```",
    ]
    for title, kind in (("Arguments", "argument"), ("Options", "option")):
        records = [entry.get_help_record(context) for entry in command.params if entry.param_type_name == kind]
        lines += _table(title, [record for record in records if record is not None])
    examples, rest = _epilogue(command.epilog)
    if examples:
        lines += ["", "## Examples", "", "```sh", *examples, "```"]
    lines += ["", *_text(rest)]
    if used:
        lines += ["", "## In these pages", ""]
        for page, found in used.items():
            lines += [f"[{_title(page)}](../{page}):", "", "```sh", *found, "```", ""]
    return "\n".join([*lines, ""])


def _text(words: str | None) -> list[str]:
    """Help as paragraphs, in which signs are meant as they stand."""
    paragraphs = re.split(r"\n\s*\n", (words or "").strip())
    joined = [" ".join(paragraph.replace("\b", "").split()) for paragraph in paragraphs]
    return "\n\n".join(re.sub(r"([\\`*_\[\]<>])", r"\\\1", entry) for entry in joined).splitlines()


def _table(title: str, records: list[tuple[str, str]]) -> list[str]:
    """HTML, since bars and brackets of options would be signs of a Markdown table."""
    if not records:
        return []
    rows = [f"<tr><td><code>{escape(name)}</code></td><td>{escape(about)}</td></tr>" for name, about in records]
    return ["", f"## {title}", "", '<table class="options">', *rows, "</table>"]


def _epilogue(words: str | None) -> tuple[list[str], str]:
    """The examples below a command's help, and what else stands there."""
    paragraphs = re.split(r"\n\s*\n", (words or "").strip())
    examples: list[str] = []
    rest = []
    for paragraph in paragraphs:
        lines = paragraph.replace("\b", "").strip().splitlines()
        if lines and lines[0].startswith("Example"):
            examples += [line.strip() for line in lines[1:]]
        else:
            rest.append(paragraph)
    return examples, "\n\n".join(rest)


def _used() -> dict[tuple[str, ...], dict[str, list[str]]]:
    """For each command the calls of it in the guides and the book, by page."""
    used: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for path in sorted(DOCS.rglob("*.md")):
        page = path.relative_to(DOCS).as_posix()
        for call in calls(path.read_text(encoding="utf-8")):
            names, _, _ = meant(call)
            lines = used.setdefault(names, {}).setdefault(page, [])
            line = f"rein {' '.join(_quoted(word) for word in call)}"
            if line not in lines:
                lines.append(line)
    return used


def _quoted(word: str) -> str:
    """A word of a call as people write it."""
    return word if shlex.quote(word) == word else f'"{word}"' if not set('"$`\\') & set(word) else shlex.quote(word)


def _title(page: str) -> str:
    """The heading of a page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return next((line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")), page)
