"""The page: one picture, explained in the order in which the data flows.

Everything is computed from a finished `Explanation`; what takes time here is decoding the steps' pictures.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from rein.explain.drawing import Drawing
from rein.explain.network_drawing import STYLE as NETWORK_STYLE
from rein.explain.part_given import given_part
from rein.explain.part_steps import guidance_part, noise_part, schedule_part, steps_part
from rein.explain.part_where import decoder_part, picture_part, where_part
from rein.explain.part_words import tokens_part, tower_part, words_part
from rein.explain.parts import PARTS, Part
from rein.explain.trace import Explanation
from rein.explain.whatif import Strip
from rein.formats.embedded import EMBEDDED
from rein.html import Markup, Page, data_uri, join, picture, section, tag
from rein.image_files import DATA_URL

BOOK = "docs/{}.md"
"""Where the pages of the book are, by their names in it: each part links to its section there."""


def build_page(explanation: Explanation, strips: Sequence[Strip] = (), book: str | None = BOOK) -> Page:
    """The page of a finished explanation, with strips of what would change.

    `book`: where pages of the book are, "{}" standing for the name of one; None is nowhere, and names them only.
    """
    drawing = Drawing(explanation)
    contents = (
        words_part(explanation),
        tokens_part(explanation),
        tower_part(explanation),
        given_part(drawing),
        noise_part(explanation),
        schedule_part(explanation),
        steps_part(drawing),
        guidance_part(explanation),
        where_part(explanation),
        decoder_part(drawing),
    )
    shown = [(part, content) for part, content in zip(PARTS, contents, strict=True) if content]
    prompt = explanation.request.prompt.strip()
    title = f"“{_cut(prompt, 100)}”" if prompt else "A picture without words"
    top = _top(title, drawing, [part for part, _ in shown])
    page = Page(f"{_cut(prompt, 60) or 'No words'}, explained", top=top, style=_style(drawing))
    for number, (part, content) in enumerate(shown, 1):
        said = part.with_picture if part.with_picture and explanation.beginning.under_noise else part.said
        more = _book(part, book)
        page.add(section(str(number), part.title, tag("p", said), *content, more, anchor=part.chapter))
    last = section(str(len(shown) + 1), "The picture", *picture_part(drawing, strips), anchor="picture")
    page.add(last, _foot(explanation))
    return page


def _cut(words: str, most: int) -> str:
    """A text on one line, cut between words where it is too long."""
    whole = " ".join(words.split())
    if len(whole) <= most:
        return whole
    begin = whole[: most - 1]
    return (begin.rpartition(" ")[0] or begin).rstrip(" ,.") + "…"


def _book(part: Part, book: str | None) -> Markup:
    where = f"{part.title}, in the book" if part.section else "Change a picture, in the guides"
    if book is None:
        return tag("p", f"More: {where} ({part.page}).", class_="note book")
    anchor = f"#{part.chapter}" if part.section else ""
    return tag("p", "More: ", tag("a", where, href=book.format(part.page) + anchor), class_="note book")


def _top(shown: str, drawing: Drawing, parts: Sequence[Part]) -> Markup:
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
    links = [tag("a", part.short, href=f"#{part.chapter}") for part in parts]
    nav = tag("nav", *links, tag("a", "picture", href="#picture"), aria_label="Parts of this page")
    image = picture(drawing.finished, f"The finished picture: {_cut(request.prompt, 200)}", class_="whole")
    return join([tag("header", image, text), nav])


_OPTIONS = {
    "negative_prompt": "--negative",
    "init_image": "--init",
    "strength": "--strength",
    "resize": "--resize",
    "depth_image": "--depth",
    "depth_model": "--depth-model",
    "image_guidance_scale": "--image-guidance",
    "mask": "--mask",
    "mask_blur": "--mask-blur",
    "masked_content": "--fill",
    "mask_padding": "--mask-padding",
    "mask_invert": "--mask-invert",
    "only_masked": "--only-masked",
    "soft_mask": "--soft-mask",
    "seamless": "--seamless",
    "refiner": "--refiner",
    "refiner_switch": "--refiner-switch",
}
"""Fields of a request that the command names where they are set."""


def _command(explanation: Explanation) -> Markup:
    request, model = explanation.request, explanation.model
    words = ["rein", "generate", _cut(request.prompt, 300), "--seed", str(request.seed), "--steps", str(request.steps)]
    words += ["--guidance", f"{request.guidance_scale:g}", "--sampler", str(request.sampler)]
    words += ["--schedule", str(request.spacing)]
    if model.name != "pocket":
        words += ["--model", model.name if model.name in EMBEDDED else model.parts.source.name]
    for name, option in _OPTIONS.items():
        value = getattr(request, name)
        if request.is_set(name):
            told = "PICTURE" if str(value).startswith(DATA_URL) else _cut(str(value), 300)
            words += [option] if value is True else [option, told]
    for lora in request.loras:
        weights = [f"{value:g}" for value in (lora.weight, lora.text_weight) if value is not None]
        words += ["--lora", ":".join([lora.path, *weights])]
    if request.width != model.spec.native_size or request.height != model.spec.native_size:
        words += ["--width", str(request.width), "--height", str(request.height)]
    return tag("p", "The same picture again: ", tag("code", shlex.join(words)), class_="note")


def _foot(explanation: Explanation) -> Markup:
    made = explanation.result.provenance
    what = f"Rein, model {made.model} ({made.model_hash[:10]}), {made.device}, {made.dtype}, PyTorch {made.torch}."
    return tag("footer", tag("p", f"{what} This page holds all that it shows and asks nothing of any network."))


def _style(drawing: Drawing) -> str:
    request = drawing.explanation.request
    uri = data_uri(drawing.small, "image/webp")
    return f':root{{--picture:url("{uri}");--shape:{request.width}/{request.height}}}{_OWN_STYLE}{NETWORK_STYLE}'


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
.strip img{box-shadow:0 0 0 1px var(--line)}.strip .own img{outline:3px solid var(--c0);outline-offset:2px}
.decode{display:grid;grid-template-columns:1fr auto 1fr;gap:1.2rem;align-items:center}
.arrow{font-size:2rem;color:var(--c0)}
.book{margin-top:1.1rem}
.gauge{display:block;width:7rem;height:.55rem;margin-top:.45rem;border-radius:4px;background:var(--tint)}
.gauge i{display:block;height:100%;border-radius:4px;background:var(--c0)}
@media (max-width:40rem){header{grid-template-columns:1fr;gap:.8rem}.whole{max-width:15rem}
.shots{grid-template-columns:1fr 1fr}.shots .main{grid-column:1/3;grid-row:auto}
.decode{grid-template-columns:1fr}.arrow{transform:rotate(90deg);text-align:center}}
@media print{nav{display:none}.shots{grid-template-columns:repeat(5,1fr)}.shots .main{grid-column:auto;grid-row:auto}
.slide figcaption{font-size:.7rem}}
"""
