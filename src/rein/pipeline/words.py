"""The words of each picture of a request: with styles, without comments, and with wildcards drawn from its seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rein.errors import quoted
from rein.pipeline.request import Request
from rein.text.dialects import find_dialect
from rein.text.prompt import NetworkTag, extract_networks, strip_comments
from rein.text.styles import apply_styles, read_styles, shipped_styles
from rein.text.variants import Draws, Lines, expand, is_dynamic, wildcards_in
from rein.text.wildcards import WildcardFolder


@dataclass(frozen=True)
class Drawn:
    """The words of one picture.

    Fields:
        prompt, negative_prompt: as the picture tells them, tags for networks among them.
        text: the prompt without those tags.
        networks: the tags, in their order.
    """

    prompt: str
    negative_prompt: str
    text: str
    networks: tuple[NetworkTag, ...] = ()


class WordSource:
    """Gives the words of each picture of a request; its files are read once.

    Raises:
        InputError: an unknown style; a file of styles or a folder of wildcards that cannot be read.
    """

    def __init__(self, request: Request) -> None:
        commented = request.dialect is None or find_dialect(request.dialect).edits
        clean = strip_comments if commented else str
        styles = shipped_styles() if request.styles else {}
        if request.styles_file is not None:
            styles = {**shipped_styles(), **read_styles(request.styles_file)}
        # A comment ends with its own text: it does not swallow the words of a style after it.
        styles = {
            name: replace(style, prompt=clean(style.prompt), negative_prompt=clean(style.negative_prompt))
            for name, style in styles.items()
        }
        texts = apply_styles(clean(request.prompt), clean(request.negative_prompt), request.styles, styles)
        self._texts = texts
        self._lines: Lines | None = None
        if request.wildcards is not None:
            self._lines = WildcardFolder(request.wildcards).lines
        self._dynamic = request.dynamic and any(is_dynamic(text) for text in texts)
        self._fixed = None if self._dynamic else _drawn(*texts)

    def drawn(self, seed: int) -> Drawn:
        """The words of the picture with `seed`, whatever pictures are made with it; the same object where it can be.

        Raises:
            InputError: an unknown wildcard, words that are too long, a tag that cannot be read.
        """
        if self._fixed is not None:
            return self._fixed
        prompt, negative = self._texts
        return _drawn(
            expand(prompt, Draws(seed, "prompt"), self._lines), expand(negative, Draws(seed, "negative"), self._lines)
        )


def drawn_words(request: Request) -> Drawn:
    """The words of the first picture of a resolved request. Raises as `WordSource`."""
    assert request.seed is not None
    return WordSource(request).drawn(request.seed)


def _drawn(prompt: str, negative_prompt: str) -> Drawn:
    text, networks = extract_networks(prompt)
    return Drawn(prompt, negative_prompt, text, tuple(networks))


def left_as_written(request: Request) -> tuple[str, ...]:
    """A note on wildcards that stay in the prompt as they are, there being no folder to find them in; or nothing."""
    if request.wildcards is not None or not request.dynamic:
        return ()
    names = wildcards_in(request.prompt) + wildcards_in(request.negative_prompt)
    shown = ", ".join(quoted(f"__{name}__") for name in names[:3]) + (", ..." if len(names) > 3 else "")
    return (f"{shown} in the prompt stays as it is: --wildcards says in which folder to find it",) if names else ()


def told(request: Request, drawn: Drawn) -> Request:
    """The request that makes a picture of these words again, without the files that they came from.

    It is `request` itself where that has no styles, wildcards and comments.
    """
    files = request.styles or request.styles_file is not None or request.wildcards is not None
    if (request.prompt, request.negative_prompt) == (drawn.prompt, drawn.negative_prompt) and not files:
        return request
    return request.replace(
        prompt=drawn.prompt,
        negative_prompt=drawn.negative_prompt,
        styles=(),
        styles_file=None,
        wildcards=None,
        dynamic=False,
    )
