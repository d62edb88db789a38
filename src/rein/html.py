"""A small writer for pages that need nothing but themselves: reports that open without a network, on a phone, on paper.

    page = Page("Losses", "What the training did")
    page.add(section("1", "The curve", tag("p", "It falls."), chart([Series("loss", points)], across, up)))
    write_page(page, "losses.html")

Text is escaped wherever it goes in; only `Markup`, which these functions return, is taken as it is. Colours are CSS
variables that follow the reader's choice of dark or light. Charts are inline SVG, drawn for a width that suits a phone.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from rein.files import atomic_file

_VOID = {"br", "hr", "img", "input", "link", "meta"}

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""What the page allows itself: what is inside it, and nothing from anywhere else."""

_OWN_SERVER = "; connect-src 'self'"


class Markup(str):
    """HTML that is finished: it is not escaped again."""

    __slots__ = ()


Content = str | Markup | None


def text(value: str) -> Markup:
    """Plain text as HTML. What no document may hold (halves of surrogate pairs, control signs) becomes U+FFFD."""
    whole = value.encode("utf-8", "replace").decode("utf-8") if not value.isascii() else value
    shown = "".join(sign if sign >= " " or sign in "\n\t" else "\ufffd" for sign in whole)
    return Markup(escape(shown, quote=True))


def join(parts: Iterable[Content], between: str = "") -> Markup:
    """Several pieces as one; those that are None are left out."""
    kept = [part if isinstance(part, Markup) else text(part) for part in parts if part is not None]
    return Markup(between.join(kept))


def tag(name: str, /, *children: Content, **attributes: object) -> Markup:
    """An element. `class_` is the attribute "class", `data_step` is "data-step"; None and False are left out."""
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        shown = key.rstrip("_").replace("_", "-")
        written.append(f" {shown}" if value is True else f' {shown}="{text(str(value))}"')
    opening = f"<{name}{''.join(written)}>"
    return Markup(opening if name in _VOID else f"{opening}{join(children)}</{name}>")


def data_uri(data: bytes, kind: str = "image/png") -> str:
    """Bytes as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def picture(data: bytes, words: str, kind: str = "image/png", **attributes: object) -> Markup:
    """A picture inside the page; `words` stand for it where it cannot be seen."""
    return tag("img", src=data_uri(data, kind), alt=words, **attributes)


def figure(content: Content, caption: Content, **attributes: object) -> Markup:
    """Something to look at, and what it is."""
    return tag("figure", content, tag("figcaption", caption), **attributes)


def table(head: Sequence[Content], rows: Iterable[Sequence[Content]], **attributes: object) -> Markup:
    """A table that can be pushed sideways where the screen is narrow."""
    top = tag("thead", tag("tr", *(tag("th", entry, scope="col") for entry in head)))
    body = tag("tbody", *(tag("tr", *(tag("td", entry) for entry in row)) for row in rows))
    return tag("div", tag("table", top, body, **attributes), class_="wide")


def section(number: str, title: str, *content: Content, anchor: str | None = None) -> Markup:
    """One part of a page, with its number on the line that joins the parts."""
    heading = tag("h2", tag("span", number, class_="number"), title)
    return tag("section", heading, *content, class_="part", id=anchor)


@dataclass
class Page:
    """A page in the making.

    Fields:
        title: the browser's title and the page's heading, unless there is a `top`.
        summary: one line below the heading.
        top: what stands there instead of heading and summary.
        style, script: added to what every page has.
        connects: whether its script may speak with the server that the page came from.
    """

    title: str
    summary: str = ""
    top: Markup | None = None
    style: str = ""
    script: str = ""
    language: str = "en-GB"
    connects: bool = False
    parts: list[Markup] = field(default_factory=list)

    def add(self, *parts: Content) -> None:
        """Append to the page."""
        self.parts.append(join(parts))

    def render(self) -> str:
        """The whole page as HTML."""
        head = tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", http_equiv="Content-Security-Policy", content=_POLICY + _OWN_SERVER * self.connects),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", self.title),
            Markup(f"<style>{STYLE}{self.style}</style>"),
        )
        summary = tag("p", self.summary, class_="lead") if self.summary else None
        top = self.top if self.top is not None else tag("header", tag("h1", self.title), summary)
        script = Markup(f"<script>{SLIDES}{self.script}</script>")
        body = tag("body", tag("main", top, *self.parts), script)
        return "<!doctype html>\n" + tag("html", head, body, lang=self.language) + "\n"


def write_page(page: Page, path: str | os.PathLike[str]) -> None:
    """Write a page, all of it or nothing. Raises as `rein.files.atomic_file`."""
    content = page.render().encode("utf-8", "replace")
    with atomic_file(path) as handle:
        handle.write(content)


@dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Fields:
        label: what is measured, with its unit.
        log: logarithmic to base 10; values must be above 0.
        low, high: its ends; those of the values where None.
        shown: how a tick is written.
    """

    label: str
    log: bool = False
    low: float | None = None
    high: float | None = None
    shown: Callable[[float], str] = lambda value: f"{value:g}"

    def scaled(self, values: Sequence[float], size: float) -> tuple[Callable[[float], float], list[float]]:
        """From a value to a place between 0 and `size`, and the values that get a tick."""
        low = min(values) if self.low is None else self.low
        high = max(values) if self.high is None else self.high
        if self.log:
            low, high = math.log10(low), math.log10(high)
        if high - low < 1e-12:
            low, high = low - 0.5, high + 0.5

        def place(value: float) -> float:
            measured = math.log10(value) if self.log else value
            return (min(max(measured, low), high) - low) / (high - low) * size

        return place, self._ticks(low, high)

    def _ticks(self, low: float, high: float) -> list[float]:
        if self.log:
            first, last = math.ceil(low - 1e-9), math.floor(high + 1e-9)
            if last - first < 2:
                factors = [n * 10.0**power for power in range(first - 1, last + 1) for n in (1, 2, 5)]
                return [value for value in factors if low - 1e-9 <= math.log10(value) <= high + 1e-9]
            every = max(1, -(-(last - first) // 5))
            return [10.0**power for power in range(first, last + 1, every)]
        step = 10.0 ** math.floor(math.log10((high - low) / 3))
        step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 5)
        first = math.ceil(low / step - 1e-9)
        return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def power(value: float) -> str:
    """A number for a tick of a logarithmic axis: "0.01", "100", "1e6"."""
    return f"{value:g}" if 1e-3 <= value < 1e4 else f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-")


@dataclass(frozen=True)
class Series:
    """One row of points of a chart. `style` is "line", "dots", "both" or "bars".

    `marked`: dot or bar i carries `data-step="i"`, and stands out when the slide of that step is shown.
    """

    name: str
    points: Sequence[tuple[float, float]]
    style: str = "line"
    marked: bool = False


_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 420, 230, 62, 12, 12, 42


def chart(series: Sequence[Series], across: Axis, up: Axis, right: Axis | None = None) -> Markup:
    """A chart as SVG. Points that are not finite, or not above 0 on a logarithmic axis, are left out.

    `right`: another reading of the same curve, on the other side; its `shown` is given the value of `up`.
    """
    kept = [[(i, x, y) for i, (x, y) in enumerate(row.points) if _fits((x, y), across, up)] for row in series]
    xs = [x for points in kept for _, x, _ in points] or [0.0, 1.0]
    ys = [y for points in kept for _, _, y in points] or [0.1, 1.0]
    margin = _RIGHT if right is None else _LEFT
    wide, high = _WIDTH - _LEFT - margin, _HEIGHT - _TOP - _BOTTOM
    if any(row.style == "bars" for row in series):
        across = Axis(across.label, across.log, min(xs) - 0.6, max(xs) + 0.6, across.shown)
    to_x, x_ticks = across.scaled(xs, wide)
    to_y, y_ticks = up.scaled(ys, high)

    def place(x: float, y: float) -> tuple[float, float]:
        return round(_LEFT + to_x(x), 1), round(_TOP + high - to_y(y), 1)

    parts = _frame(across, up, (x_ticks, y_ticks), (place, right, margin))
    for number, (row, points) in enumerate(zip(series, kept, strict=True)):
        places = [(step, *place(x, y)) for step, x, y in points]
        parts += _drawn(row, f"c{number}", places, (wide, _TOP + high))
    label = f"{', '.join(row.name for row in series)}: {up.label} over {across.label}"
    svg = tag("svg", *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=label, class_="chart")
    if len(series) < 2:
        return svg
    keys = [tag("span", row.name, class_=f"key c{number}") for number, row in enumerate(series)]
    return join([svg, tag("div", *keys, class_="keys")])


def _fits(point: tuple[float, float], across: Axis, up: Axis) -> bool:
    return all(math.isfinite(v) and (v > 0 or not axis.log) for v, axis in zip(point, (across, up), strict=True))


_Place = Callable[[float, float], tuple[float, float]]


def _label(words: str, x: float, y: float, anchor: str = "middle", turned: bool = False) -> Markup:
    turn = f"rotate(-90 {x} {y})" if turned else None
    return tag("text", words, x=x, y=y, text_anchor=anchor, transform=turn)


def _frame(
    across: Axis, up: Axis, ticks: tuple[list[float], list[float]], layout: tuple[_Place, Axis | None, int]
) -> list[Markup]:
    place, right, margin = layout
    floor, end = _HEIGHT - _BOTTOM, _WIDTH - margin
    parts = [
        _label(across.label, (_LEFT + end) / 2, _HEIGHT - 6),
        _label(up.label, 12, (_TOP + floor) / 2, turned=True),
    ]
    for value in ticks[1]:
        y = place(0 if not across.log else 1, value)[1]
        parts.append(tag("line", x1=_LEFT, x2=end, y1=y, y2=y, class_="grid"))
        parts.append(_label(up.shown(value), _LEFT - 6, y + 4, "end"))
        if right is not None:
            parts.append(_label(right.shown(value), end + 6, y + 4, "start"))
    for value in ticks[0]:
        x = place(value, 1 if up.log else 0)[0]
        parts.append(_label(across.shown(value), x, floor + 17))
    if right is not None:
        parts.append(_label(right.label, _WIDTH - 5, (_TOP + floor) / 2, turned=True))
    parts.append(tag("line", x1=_LEFT, x2=end, y1=floor, y2=floor, class_="axis"))
    return parts


def _drawn(
    row: Series, colour: str, places: Sequence[tuple[int, float, float]], size: tuple[float, float]
) -> list[Markup]:
    parts = []
    style = row.style
    if style in ("line", "both") and places:
        path = "M" + "L".join(f"{x} {y}" for _, x, y in places)
        parts.append(tag("path", d=path, class_=f"curve {colour}"))
    if style in ("dots", "both"):
        for step, x, y in places:
            parts.append(tag("circle", cx=x, cy=y, r=3, class_=f"dot {colour}", data_step=step if row.marked else None))
    if style == "bars":
        thick = max(1.0, round(size[0] / max(len(places), 1) * 0.7, 1))
        for step, x, y in places:
            box = {"x": round(x - thick / 2, 1), "y": y, "width": thick, "height": round(max(size[1] - y, 0), 1)}
            parts.append(tag("rect", class_=f"bar {colour}", data_step=step if row.marked else None, **box))
    return parts


STYLE = """
:root{color-scheme:light dark;--paper:#fbfaf7;--card:#fff;--ink:#22242a;--soft:#5d6270;--line:#dcd9d0;--c0:#3652c9;
--c1:#c2410c;--c2:#0f766e;--tint:#eceffb;--shade:0 1px 2px #0001,0 4px 14px #0000000d}
@media (prefers-color-scheme:dark){:root{--paper:#14161b;--card:#1d2027;--ink:#e8e6e1;--soft:#a2a7b4;--line:#343944;
--c0:#93a8ff;--c1:#ff9f68;--c2:#5ed0c3;--tint:#262c42;--shade:none}}
*{box-sizing:border-box}html{scroll-behavior:smooth}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.6 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:62rem;margin:0 auto;padding:1.5rem 1.25rem 4rem}
header{margin-bottom:1.75rem}
h1,h2{font-family:Georgia,"Iowan Old Style","DejaVu Serif",serif;line-height:1.25;font-weight:600}
h1{font-size:clamp(1.6rem,5vw,2.4rem);margin:.2em 0;overflow-wrap:anywhere}
h2{font-size:1.45rem;margin:0 0 .5rem}h3{font-size:1rem;margin:1.6rem 0 .4rem}
p{margin:.5rem 0;max-width:44rem}.lead{color:var(--soft);font-size:1.05rem}a{color:var(--c0)}
code{font:.88em ui-monospace,Menlo,Consolas,monospace;background:var(--tint);border-radius:4px;padding:.1em .35em;
overflow-wrap:anywhere}
.note{color:var(--soft);font-size:.88rem}
.part{position:relative;padding:0 0 3rem 3.4rem;scroll-margin-top:3.5rem}
.part:before{content:"";position:absolute;left:1.05rem;top:2.2rem;bottom:-.2rem;width:2px;background:var(--line)}
.part:last-of-type:before{display:none}
.number{position:absolute;left:0;top:-.05rem;width:2.2rem;height:2.2rem;border-radius:50%;background:var(--c0);
color:var(--paper);font:600 1rem/2.2rem system-ui,sans-serif;text-align:center}
figure{margin:0;min-width:0}figcaption{color:var(--soft);font-size:.85rem;line-height:1.4;margin-top:.35rem}
img{max-width:100%;display:block;border-radius:6px}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;box-shadow:var(--shade);padding:1rem;
margin:1rem 0}
.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(17.5rem,100%),1fr));gap:1rem;margin:1rem 0;
align-items:start}.row>.card{margin:0}
.wide{overflow-x:auto;margin:1rem 0}table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th{text-align:left;color:var(--soft);font-weight:500}
th,td{padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--line);
vertical-align:top}
svg{display:block;width:100%;height:auto;max-width:34rem;margin:0 auto}
.chart text{fill:var(--soft);font:12.5px system-ui,sans-serif}.grid{stroke:var(--line)}.axis{stroke:var(--soft)}
.curve{fill:none;stroke-width:2;stroke-linejoin:round}.curve.c0{stroke:var(--c0)}.curve.c1{stroke:var(--c1)}
.curve.c2{stroke:var(--c2)}.c0{fill:var(--c0)}.c1{fill:var(--c1)}.c2{fill:var(--c2)}
.curve.c0,.curve.c1,.curve.c2{fill:none}.bar{opacity:.55}.dot.now{r:6px;stroke:var(--card);stroke-width:2}
.bar.now{opacity:1}.keys{display:flex;flex-wrap:wrap;gap:.2rem 1rem;font-size:.85rem}
.key:before{content:"";display:inline-block;width:.8em;height:.8em;border-radius:3px;margin-right:.4em;
background:var(--c0)}.key.c1:before{background:var(--c1)}.key.c2:before{background:var(--c2)}
.slide+.slide{margin-top:1.5rem;padding-top:1.5rem;border-top:1px solid var(--line)}
.live .slide{display:none;margin:0;padding:0;border:0}.live .slide.now{display:block}
.bar-of-slides{display:flex;gap:.8rem;align-items:center;margin-bottom:1rem}
.bar-of-slides input{flex:1;min-width:0;height:2rem;accent-color:var(--c0)}
.bar-of-slides button{font:inherit;border:1px solid var(--line);border-radius:8px;background:var(--tint);
color:var(--ink);padding:.35rem .9rem;min-width:5.2rem;cursor:pointer}
.bar-of-slides output{font-variant-numeric:tabular-nums;white-space:nowrap;color:var(--soft)}
@media (max-width:40rem){main{padding:1rem .9rem 3rem}.part{padding-left:0}.part:before{display:none}
.number{position:static;display:inline-block;margin-right:.6rem}}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
@media print{:root{--paper:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--c0:#3652c9;--c1:#c2410c;--c2:#0f766e;
--tint:#eee;--shade:none}body{font-size:10.5pt}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
nav,.bar-of-slides{display:none}.live .slide{display:block;margin-top:1rem}figure,.card,tr{break-inside:avoid}
h2{break-after:avoid}.part{padding-bottom:1.5rem}}
"""

SLIDES = """
document.querySelectorAll('.slides').forEach(function(box){
var slides=[].slice.call(box.querySelectorAll('.slide'));if(slides.length<2)return;
var bar=document.createElement('div'),play=document.createElement('button'),range=document.createElement('input'),
said=document.createElement('output'),timer=null;
bar.className='bar-of-slides';range.type='range';range.min=0;range.max=slides.length-1;
range.setAttribute('aria-label',box.dataset.label||'slide');play.type='button';play.textContent='Play';
bar.append(play,range,said);box.prepend(bar);box.classList.add('live');
function show(n){range.value=n;slides.forEach(function(slide,i){slide.classList.toggle('now',i==n)});
var step=slides[n].dataset.step;said.textContent=slides[n].dataset.name;
document.querySelectorAll('svg [data-step]').forEach(function(mark){
mark.classList.toggle('now',mark.dataset.step===step)})}
function stop(){clearInterval(timer);timer=null;play.textContent='Play'}
range.addEventListener('input',function(){stop();show(+range.value)});
play.addEventListener('click',function(){if(timer)return stop();play.textContent='Stop';
if(+range.value>=slides.length-1)show(0);
timer=setInterval(function(){if(+range.value>=slides.length-1)return stop();show(+range.value+1)},450)});
show(slides.length-1)});
"""
