"""The page: one picture, explained in the order in which the data flows.

Everything is computed from a finished `Explanation`; what takes time here is decoding the steps' pictures.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from rein.explain.drawing import Drawing
from rein.explain.part_steps import guidance_part, noise_part, schedule_part, steps_part
from rein.explain.part_where import decoder_part, picture_part, where_part
from rein.explain.part_words import tokens_part, tower_part, words_part
from rein.explain.trace import Explanation
from rein.explain.whatif import Strip
from rein.html import Markup, Page, data_uri, join, picture, section, tag

BOOK = "docs/book"
"""Where the book is: each part links to its section there."""

SAMPLING = ("noise", "schedule", "steps", "guidance")
"""Parts that the chapter on sampling tells of; the others stand in the one on architecture."""


@dataclass(frozen=True)
class Part:
    """One part of the page: its anchor and chapter of the book, its heading, its short name, and two sentences."""

    chapter: str
    title: str
    short: str
    said: str


PARTS = (
    Part(
        "words",
        "The words",
        "words",
        "A sentence and one number, the seed, are all that the machine is given; the same two make the same picture "
        "again. No picture is looked up anywhere: everything below is computed from what the networks learned.",
    ),
    Part(
        "tokens",
        "Words become tokens and numbers",
        "tokens",
        "A network computes with numbers, so the sentence is cut into pieces from a fixed list, the vocabulary, and "
        "each piece becomes its number in that list. Frequent words are one piece, rare ones several; a start, an end "
        "and padding fill the row to its full length.",
    ),
    Part(
        "text-tower",
        "The text tower reads them together",
        "text tower",
        "Each token starts as a vector that knows nothing of its neighbours, and layer by layer it gathers from the "
        "tokens before it what it needs: so “apple” can come to mean an apple that is red. Bright squares show "
        "which token (row) looked at which (column); the upper right stays dark because nothing looks ahead.",
    ),
    Part(
        "noise",
        "It starts from noise",
        "noise",
        "The seed sets off a random number generator, and its numbers are the first latents: a small, many-layered "
        "picture that is nothing but noise. They follow the bell curve, and nothing of the words is in them yet.",
    ),
    Part(
        "schedule",
        "How the noise is to go down",
        "schedule",
        "The noise level, sigma, says how much stronger noise is than picture, and the dots are the levels that this "
        "picture visits on its way down to none. Early steps decide what is where, late ones only detail, because by "
        "then the signal (right scale, in decibels) is far above the noise.",
    ),
    Part(
        "steps",
        "Step by step",
        "steps",
        "At every step the U-Net looks at the noisy latents and says what finished picture it believes to be behind "
        "them; the sampler then moves a little way towards it. Move the slider: the belief starts as a blur and "
        "becomes a picture long before the noise is gone.",
    ),
    Part(
        "guidance",
        "What guidance added",
        "guidance",
        "The U-Net answers twice, with your words and without, and guidance exaggerates the difference, so that the "
        "words count for more. The curves show how much it added to the answer with words, and whether it kept pulling "
        "in the same direction (1) or turned aside (0).",
    ),
    Part(
        "attention",
        "Which word acted where",
        "words in the picture",
        "Inside the U-Net every place of the picture asks all tokens what belongs there; the brighter a place, the "
        "more it listened to that word compared with other places. The percentage is the word's share of all "
        "listening; the rest goes to the start and end marks, where places look that need no word.",
    ),
    Part(
        "decoder",
        "The decoder makes pixels",
        "decoder",
        "The finished latents are small and have more layers than a picture has colours; no layer is a colour by "
        "itself. The decoder, one half of the autoencoder, has learned to draw from them every pixel at full size.",
    ),
)


def build_page(explanation: Explanation, strips: Sequence[Strip] = ()) -> Page:
    """The page of a finished explanation, with strips of what would change."""
    drawing = Drawing(explanation)
    contents = (
        words_part(explanation),
        tokens_part(explanation),
        tower_part(explanation),
        noise_part(explanation),
        schedule_part(explanation),
        steps_part(drawing),
        guidance_part(explanation),
        where_part(explanation),
        decoder_part(drawing),
    )
    prompt = explanation.request.prompt.strip()
    shown = f"“{_cut(prompt, 100)}”" if prompt else "A picture without words"
    page = Page(f"{_cut(prompt, 60) or 'No words'}, explained", top=_top(shown, drawing), style=_style(drawing))
    for number, (part, content) in enumerate(zip(PARTS, contents, strict=True), 1):
        page.add(section(str(number), part.title, tag("p", part.said), *content, _book(part), anchor=part.chapter))
    last = section(str(len(PARTS) + 1), "The picture", *picture_part(drawing, strips), anchor="picture")
    page.add(last, _foot(explanation))
    return page


def _cut(words: str, most: int) -> str:
    """A text on one line, cut between words where it is too long."""
    whole = " ".join(words.split())
    if len(whole) <= most:
        return whole
    begin = whole[: most - 1]
    return (begin.rpartition(" ")[0] or begin).rstrip(" ,.") + "…"


def _book(part: Part) -> Markup:
    page = "sampling" if part.chapter in SAMPLING else "architecture"
    link = tag("a", f"{part.title}, in the book", href=f"{BOOK}/{page}.md#{part.chapter}")
    return tag("p", "More: ", link, class_="note book")


def _top(shown: str, drawing: Drawing) -> Markup:
    explanation = drawing.explanation
    request = explanation.request
    facts = [
        ("model", explanation.model.name),
        ("seed", str(request.seed)),
        ("size", f"{request.width} × {request.height}"),
        ("steps", f"{request.steps}, {request.sampler}"),
        ("guidance", f"{request.guidance_scale:g}"),
        ("time", f"{explanation.result.seconds:.1f} s"),
    ]
    listed = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts]
    lead = "How this picture was made, part by part, in the order in which the data flows."
    text = tag("div", tag("h1", shown), tag("p", lead, class_="lead"), tag("dl", *listed), _command(explanation))
    links = [tag("a", part.short, href=f"#{part.chapter}") for part in PARTS]
    nav = tag("nav", *links, tag("a", "picture", href="#picture"), aria_label="Parts of this page")
    image = picture(drawing.finished, f"The finished picture: {_cut(request.prompt, 200)}", class_="whole")
    return join([tag("header", image, text), nav])


def _command(explanation: Explanation) -> Markup:
    request = explanation.request
    words = ["rein", "generate", _cut(request.prompt, 300), "--seed", str(request.seed), "--steps", str(request.steps)]
    words += ["--guidance", f"{request.guidance_scale:g}", "--sampler", str(request.sampler)]
    words += ["--schedule", str(request.spacing)]
    if request.negative_prompt:
        words += ["--negative", _cut(request.negative_prompt, 300)]
    if request.width != explanation.model.spec.native_size or request.height != explanation.model.spec.native_size:
        words += ["--width", str(request.width), "--height", str(request.height)]
    return tag("p", "The same picture again: ", tag("code", shlex.join(words)), class_="note")


def _foot(explanation: Explanation) -> Markup:
    made = explanation.result.provenance
    what = f"Rein, model {made.model} ({made.model_hash[:10]}), {made.device}, {made.dtype}, PyTorch {made.torch}."
    return tag("footer", tag("p", f"{what} This page holds all that it shows and asks nothing of any network."))


def _style(drawing: Drawing) -> str:
    request = drawing.explanation.request
    uri = data_uri(drawing.small, "image/webp")
    return f':root{{--picture:url("{uri}");--shape:{request.width}/{request.height}}}{_OWN_STYLE}'


_OWN_STYLE = """
header{display:grid;grid-template-columns:minmax(9rem,17rem) 1fr;gap:1.75rem;align-items:center;margin-bottom:1.5rem}
.whole{width:100%;border-radius:10px;box-shadow:var(--shade)}
dl{display:flex;flex-wrap:wrap;gap:.5rem 1.6rem;margin:.8rem 0}dt{color:var(--soft);font-size:.8rem}
dd{margin:0;font-variant-numeric:tabular-nums;font-weight:600}
nav{position:sticky;top:0;z-index:2;display:flex;gap:.35rem;overflow-x:auto;padding:.6rem 0;margin-bottom:2rem;
background:var(--paper);border-bottom:1px solid var(--line);scrollbar-width:none}
nav a{white-space:nowrap;text-decoration:none;color:var(--soft);font-size:.87rem;padding:.15rem .65rem;
border:1px solid var(--line);border-radius:1rem}nav a:hover{color:var(--ink);border-color:var(--c0)}
footer{color:var(--soft);font-size:.85rem;border-top:1px solid var(--line);padding-top:1rem}
.chips{display:flex;flex-wrap:wrap;gap:.45rem .5rem;margin:1rem 0}
.word{display:flex;border-radius:9px;overflow:hidden;border:1px solid var(--line);background:var(--tint)}
.piece{padding:.25rem .65rem;text-align:center;line-height:1.3}.piece+.piece{border-left:1px dashed var(--soft)}
.piece small{display:block;color:var(--soft);font-variant-numeric:tabular-nums}.mark{background:none;color:var(--soft)}
.plain{font:1.25rem/1.5 Georgia,"DejaVu Serif",serif;padding:.2rem .75rem}
.pixels img,img.pixels{image-rendering:pixelated;width:100%}
.shots{display:grid;grid-template-columns:repeat(4,1fr);gap:1rem}.shots img{width:100%}
.shots .main{grid-column:1/3;grid-row:1/3}
.facts{display:flex;flex-wrap:wrap;gap:.2rem 1.4rem;margin:.9rem 0 0;font-size:.9rem;color:var(--soft);max-width:none}
.facts b{color:var(--ink);font-variant-numeric:tabular-nums}
.seen{background:var(--picture) center/100% 100%;aspect-ratio:var(--shape);border-radius:6px;overflow:hidden}
.seen img{width:100%;height:100%;border-radius:0}
.acts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(19rem,100%),1fr));gap:1rem;margin:1rem 0}
.acts .card{margin:0}.acts h3{margin:0 0 .6rem;display:flex;justify-content:space-between;font-size:1.05rem}
.acts h3 span{color:var(--soft);font-weight:400;font-size:.9rem}
.four{display:grid;grid-template-columns:3.5fr 1fr;gap:.5rem .6rem}.four>:first-child{grid-row:1/4}
.four figcaption{font-size:.75rem;margin-top:.15rem}
.layers{display:grid;grid-auto-flow:column;grid-auto-columns:5.6rem;gap:.5rem;overflow-x:auto;padding:.3rem 0}
.layers figcaption{font-size:.72rem}details{margin:1.2rem 0}summary{cursor:pointer;color:var(--c0)}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(4.2rem,1fr));gap:.5rem}
.strip{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(8.5rem,45%),1fr));gap:.8rem;margin:.6rem 0 1.4rem}
.strip .own img{outline:3px solid var(--c0);outline-offset:2px}
.decode{display:grid;grid-template-columns:1fr auto 1fr;gap:1.2rem;align-items:center}
.arrow{font-size:2rem;color:var(--c0)}
.book{margin-top:1.1rem}
@media (max-width:40rem){header{grid-template-columns:1fr;gap:.8rem}.whole{max-width:15rem}
.shots{grid-template-columns:1fr 1fr}.shots .main{grid-column:1/3;grid-row:auto}
.decode{grid-template-columns:1fr}.arrow{transform:rotate(90deg);text-align:center}}
@media print{nav{display:none}.shots{grid-template-columns:repeat(5,1fr)}.shots .main{grid-column:auto;grid-row:auto}
.slide figcaption{font-size:.7rem}}
"""
