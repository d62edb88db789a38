"""Where a page goes: a name that replaces nothing, in a place that is tried before the long work."""

from __future__ import annotations

import itertools
import os
import re
import tempfile
from pathlib import Path
from urllib.parse import quote

from rein.errors import InputError, quoted
from rein.explain.file import trace_paths
from rein.files import write_failure

DEFAULT_FOLDER = "explained"

_STEM_LETTERS = 60


def free_page(output: str | None, words: str, seed: int | None) -> Path:
    """A free name for a page: `output` if it ends in .html, else one made of words and seed in that folder.

    Folders are made where the name is ours; for a name of yours, its folder must be there. A name that is taken gets
    -1, -2 ...

    Raises:
        InputError: it is no name for a page.
        OutputError: nothing can be written there.
    """
    wanted = DEFAULT_FOLDER if output is None else output
    if not wanted or "\0" in wanted:
        raise InputError(f"--output is {quoted(wanted)}: give a folder, or a file name that ends in .html")
    path = Path(wanted)
    named = path.suffix.lower() in (".html", ".htm") and not path.is_dir()
    if not named and path.suffix and not path.is_dir() and not wanted.endswith(os.sep):
        raise InputError(f"--output is {quoted(wanted)}: a page needs a name that ends in .html, or give a folder")
    folder = path.parent if named else path
    try:
        if not named:
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, prefix=".rein-"):
            pass
        stem, suffix = (path.stem, path.suffix) if named else (_stem(words, seed), ".html")
        names = itertools.chain([""], (f"-{number}" for number in itertools.count(1)))
        return next(p for name in names if not os.path.lexists(p := folder / f"{stem}{name}{suffix}"))
    except OSError as error:
        raise write_failure(wanted, error) from error


def book_beside(page: Path) -> str | None:
    """Where the book's pages are, for `build_page`, as a path from the page's own folder.

    In a copy of the repository it is the built site where there is one, else its Markdown; None where Rein was
    installed without.
    """
    root = Path(__file__).resolve().parents[3]
    for found, page_of_it in ((root / "site", "{}/index.html"), (root / "docs", "{}.md")):
        if (found / page_of_it.format("book/sampling")).is_file():
            return quote(os.path.relpath(found, page.resolve().parent)) + "/" + page_of_it
    return None


def try_place(trace: str) -> None:
    """See whether a trace can be written there. Raises `InputError`, `OutputError`."""
    if not trace or "\0" in trace:
        raise InputError(f"--trace is {quoted(trace)}: give a name such as apple")
    tensor_path, _ = trace_paths(trace)
    try:
        with tempfile.TemporaryFile(dir=tensor_path.parent, prefix=".rein-"):
            pass
    except OSError as error:
        raise write_failure(tensor_path, error) from error


def _stem(words: str, seed: int | None) -> str:
    """ "a-red-apple-7" for "A red apple" and 7; letters and digits of any script stay."""
    parts = re.findall(r"[^\W_]+", words[:400].lower())
    stem = ""
    for part in parts:
        if len((stem + part).encode("utf-8", "replace")) > _STEM_LETTERS:
            break
        stem += f"-{part}" if stem else part
    return (stem or "picture") + ("" if seed is None else f"-{seed}")
