"""The page's parts on words: the sentence, its tokens, the text tower."""

from __future__ import annotations

from collections.abc import Sequence

from rein.explain.pictures import heat
from rein.explain.trace import Explanation
from rein.explain.words import WINDOWS_KEPT, Token, Words
from rein.html import Content, Markup, data_uri, figure, join, table, tag

_CHIPS_SHOWN = 120
_TOKENS_SHOWN = 16
"""Tokens in the drawings of the tower's attention; more could not be read."""

_LAYERS_SHOWN = 12


def words_part(explanation: Explanation) -> list[Content]:
    """The prompt, and the negative prompt where there is one."""
    words = explanation.words
    empty = tag("p", "There are no words: the prompt is empty.")
    parts: list[Content] = [_plain(part.words) if part.words else empty for part in words.parts]
    if len(words.readings) > 1:
        head = ("part", "weight", "steps", "what it says")
        rows = [
            (str(entry.part + 1), f"{entry.weight:g}", _ranges(entry.steps), entry.text)
            for entry in words.readings[:_CHIPS_SHOWN]
        ]
        note = "The prompt has several parts, or changes on the way. Tokens and maps are of its beginning."
        parts += [tag("p", note), table(head, rows)]
    if words.negative_prompt.strip():
        parts += [tag("h3", "To be led away from"), _plain(words.negative_prompt.split())]
    elif explanation.request.guidance_scale != 1:
        parts.append(tag("p", "There is no negative prompt: an empty one takes its place.", class_="note"))
    return parts


def _ranges(steps: tuple[int, ...]) -> str:
    """ "1 to 8", "1, 3, 5 ..."."""
    if steps == tuple(range(steps[0], steps[-1] + 1)):
        return str(steps[0]) if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"
    return ", ".join(str(step) for step in steps[:6]) + (" ..." if len(steps) > 6 else "")


def _plain(words: tuple[str, ...] | list[str]) -> Markup:
    chips = [tag("span", word, class_="word plain") for word in words[:_CHIPS_SHOWN]]
    return tag("div", *chips, _more(len(words)), class_="chips")


def _more(count: int) -> Markup | None:
    return tag("span", f"… and {count - _CHIPS_SHOWN} more", class_="note") if count > _CHIPS_SHOWN else None


def tokens_part(explanation: Explanation) -> list[Content]:
    """Every token with its number, the pieces of a word joined."""
    words = explanation.words
    size = explanation.model.parts.tokenizers[0].vocabulary_size
    parts: list[Content] = []
    for number, part in enumerate(words.parts, 1):
        if len(words.parts) > 1:
            parts.append(tag("h3", f"Part {number} of {len(words.parts)}"))
        note = f"{len(part.tokens)} places of context, numbers from a vocabulary of {size:,}."
        if part.windows > 1:
            note += f" The words are more than one window of {words.length} places: they are read in {part.windows}."
        parts += [tag("div", *_chips(part.tokens), class_="chips"), tag("p", note, class_="note")]
    return parts


def _chips(tokens: Sequence[Token]) -> list[Content]:
    """The tokens, those of a word joined, and how many pads follow."""
    groups: list[list[Token]] = []
    for token in tokens:
        if token.kind == "pad":
            continue
        if groups and token.word is not None and token.word == groups[-1][-1].word:
            groups[-1].append(token)
        else:
            groups.append([token])
    chips: list[Content] = [_chip(group) for group in groups[:_CHIPS_SHOWN]]
    pads = sum(token.kind == "pad" for token in tokens)
    if pads:
        chips.append(_marked(f"{pads} ×", "padding"))
    return [*chips, _more(len(groups))]


def _chip(group: list[Token]) -> Markup:
    if group[0].kind != "word":
        return _marked(group[0].text, str(group[0].id))
    pieces = [tag("span", token.text, tag("small", _below(token)), class_="piece") for token in group]
    return tag("span", *pieces, class_="word")


def _below(token: Token) -> str:
    """The token's number, and its weight where it has one."""
    number = str(token.id) if token.id else "learned"
    return number if token.weight == 1 else f"{number} × {token.weight:.3g}"


def _marked(words: str, below: str) -> Markup:
    return tag("span", tag("span", words, tag("small", below), class_="piece"), class_="word mark")


def tower_part(explanation: Explanation) -> list[Content]:
    """Which token looked at which, layer by layer."""
    words = explanation.words
    labels = _labels(words)
    parts: list[Content] = []
    for number, tower in enumerate(words.towers, 1):
        layers = tower.attention[0]
        if len(words.towers) > 1:
            parts.append(tag("h3", f"Text tower {number} of {len(words.towers)}"))
        chosen = sorted({round(i * (len(layers) - 1) / max(_LAYERS_SHOWN - 1, 1)) for i in range(_LAYERS_SHOWN)})
        chosen = list(range(len(layers))) if len(layers) <= _LAYERS_SHOWN else chosen
        figures = [
            figure(_matrix(layers[layer].tolist(), labels), f"Layer {layer + 1} of {len(layers)}", class_="card")
            for layer in chosen
        ]
        parts.append(tag("div", *figures, class_="row"))
        width = tower.hidden.shape[-1]
        parts.append(
            tag(
                "p",
                f"Each token leaves as {width:,} numbers; encoding took {words.seconds * 1000:.0f} ms.",
                class_="note",
            )
        )
    if words.windows > 1:
        parts.append(
            tag("p", f"The first window is shown, of {words.windows} ({WINDOWS_KEPT} are kept).", class_="note")
        )
    if len(words.parts) > 1:
        parts.append(tag("p", "The first part is shown; the tower reads each part by itself.", class_="note"))
    return parts


def _labels(words: Words) -> list[str]:
    used = [token.text for token in words.tokens[: words.length] if token.kind != "pad"]
    return used if len(used) <= _TOKENS_SHOWN else used[: _TOKENS_SHOWN - 1]


def _matrix(weights: list[list[float]], labels: list[str]) -> Markup:
    """A square of attention weights with the tokens at its sides, as SVG."""
    import torch

    count = len(labels)
    square = torch.tensor([row[:count] for row in weights[:count]])
    image = data_uri(heat(square))
    shown = [label if len(label) <= 10 else label[:9] + "…" for label in labels]
    longest = max(len(label) for label in shown)
    left, top, size = 16 + 7 * longest, 16 + 6 * longest, 320
    cell = size / count
    parts = [
        tag(
            "image",
            href=image,
            x=left,
            y=top,
            width=size,
            height=size,
            class_="pixels",
            style="image-rendering:pixelated",
        )
    ]
    for place, label in enumerate(shown):
        middle = round((place + 0.5) * cell, 1)
        parts.append(tag("text", label, x=left - 7, y=top + middle + 4, text_anchor="end"))
        x, y = left + middle + 4, top - 7
        parts.append(tag("text", label, x=x, y=y, transform=f"rotate(-60 {x} {y})"))
    said = "; ".join(f"{shown[row]} looked most at {shown[int(square[row].argmax())]}" for row in range(count))
    return join(
        [
            tag(
                "svg",
                *parts,
                viewBox=f"0 0 {left + size + 4} {top + size + 4}",
                role="img",
                aria_label=said,
                class_="chart",
            )
        ]
    )
