"""The page: whole, in order, harmless, and with the picture itself in it."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image

from rein.errors import InputError
from rein.explain.page import build_page
from rein.explain.part_where import layer_label, region
from rein.explain.parts import PARTS
from rein.explain.pictures import FalseColours, png, veil
from rein.explain.place import book_beside
from rein.explain.trace import Explanation, explain
from rein.explain.whatif import STRIPS, draw_strips, requests, strip_names
from rein.pipeline.model import Model
from rein.pipeline.request import Request
from tests.explain.conftest import Loader
from tests.explain.outline import Outline

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def text(apple: Explanation) -> str:
    strips = list(draw_strips(apple.model, apple.request, ["guidance", "word"]))
    return build_page(apple, strips).render()


@pytest.fixture(scope="module")
def outline(text: str) -> Outline:
    return Outline(text)


def test_every_part_is_there_in_order_and_linked_into_the_book(outline: Outline) -> None:
    chapters = ["words", "tokens", "text-tower", "noise", "schedule", "steps", "guidance", "attention", "decoder"]
    assert [part.chapter for part in PARTS if part.section] == chapters
    assert outline.ids == [*chapters, "picture"]
    for chapter in chapters:
        [link] = [link for link in outline.links if link.endswith(f".md#{chapter}")]
        page = ROOT / link.partition("#")[0]
        assert f"{{#{chapter}}}" in page.read_text(encoding="utf-8")
        assert f"#{chapter}" in outline.links


def test_every_part_is_said_in_two_sentences() -> None:
    for part in PARTS:
        for said in filter(None, (part.said, part.with_picture)):
            assert len(re.findall(r"[.](?= |$)", said)) == 2, said
        assert (ROOT / "docs" / f"{part.page}.md").is_file()


def test_without_a_book_the_parts_only_name_it(apple: Explanation) -> None:
    outline = Outline(build_page(apple, book=None).render())
    assert all(link.startswith("#") for link in outline.links)
    assert outline.said.count("in the book (book/") == 9


def test_the_book_is_found_from_where_the_page_is(tmp_path: Path) -> None:
    """As a path from the page's own folder: the page and the book may be moved together."""
    found = book_beside(tmp_path / "a page.html")
    assert found is not None
    assert (tmp_path / unquote(found).format("book/sampling")).resolve().is_file()


def test_there_is_a_slide_for_each_step(outline: Outline) -> None:
    assert outline.slides == ["0", "1", "2", "3"]


def test_every_picture_says_what_it_is(outline: Outline) -> None:
    assert len(outline.images) > 40
    assert all(image["alt"] for image in outline.images)


def test_the_picture_is_the_file_of_generate(outline: Outline, apple: Explanation, pocket: Model) -> None:
    drawn = pocket.generate("a red apple, flat style", seed=7, steps=4).images[0]
    sources = [str(image["src"]) for image in outline.images if str(image["alt"]).startswith("The finished picture")]
    assert base64.b64decode(sources[0].removeprefix("data:image/png;base64,")) == png(drawn)


def test_the_page_asks_nothing_of_a_network(text: str) -> None:
    assert "default-src 'none'" in text.replace("&#x27;", "'")
    assert not re.search(r"https?://|//[a-z]+\.|@import|<link|<script src|srcset", text)
    addresses = re.findall(r'(?:src|href)="([^"]*)"', text) + re.findall(r'url\("([^"]*)"\)', text)
    assert all(address.startswith(("data:image/", "#", "docs/book/")) for address in addresses)


def test_words_are_shown_as_text(pocket: Model) -> None:
    prompt = '</title><script>alert("x")</script> <img src=x onerror=1> & \ud800'
    page = build_page(explain(prompt, pocket, seed=7, steps=1, negative_prompt="</style><em>").finish()).render()
    found, harmless = Outline(page), Outline(build_page(explain("a", pocket, seed=7, steps=1).finish()).render())
    assert (found.tags["script"], found.tags["style"], found.tags["em"]) == (1, 1, 0)
    assert found.tags["title"] == harmless.tags["title"]
    assert not any(name.startswith("on") for name in found.attributes)
    assert "<img src=x onerror=1>" in found.said
    page.encode("utf-8")


@pytest.mark.parametrize("prompt", ["", "apple " * 70, "word" * 40])
def test_any_prompt_has_a_page(pocket: Model, prompt: str) -> None:
    explanation = explain(prompt, pocket, seed=7, steps=2, guidance_scale=1.0).finish()
    found = Outline(build_page(explanation).render())
    assert "Guidance is off here" in found.said
    assert ("There are no words" in found.said) == (prompt == "")


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_other_families_have_a_page(small_model: Loader, family: str) -> None:
    explanation = explain("a red apple", small_model(family), seed=7, steps=2).finish()
    found = Outline(build_page(explanation).render())
    assert found.ids[-1] == "picture"
    assert ("Text tower 2 of 2" in found.said) == (family == "sdxl")


def test_long_runs_are_thinned_out_and_the_page_says_so(pocket: Model) -> None:
    explanation = explain("a red apple", pocket, seed=7, steps=60).finish()
    found = Outline(build_page(explanation).render())
    assert 5 <= len(found.slides) <= 24
    assert (found.slides[0], found.slides[-1]) == ("0", "59")
    assert f"{len(found.slides)} of the 60 steps are shown here" in found.said


def test_strips_change_one_thing_each() -> None:
    own = Request(prompt="a red apple, flat style", steps=20, guidance_scale=4.0, sampler="euler", seed=7, eta=None)
    changes = {"guidance": {"guidance_scale"}, "steps": {"steps"}, "sampler": {"sampler"}, "word": {"prompt"}}
    for name in STRIPS:
        listed = requests(name, own)
        if name in ("strength", "adapter"):
            assert listed == []  # nothing was given
            continue
        assert 2 <= len(listed) <= 3
        assert len({label for label, _ in listed}) == len(listed)
        for _, other in listed:
            different = {key for key, value in other.model_dump().items() if value != own.model_dump()[key]}
            assert different == changes.get(name, {"negative_prompt"})
    assert [other.prompt for _, other in requests("word", own)] == [
        "a apple, flat style",
        "a red flat style",
        "a red apple, style",
    ]
    assert requests("word", own.replace(prompt="")) == []


def test_pictures_of_strips_are_those_of_generate(pocket: Model, apple: Explanation) -> None:
    [strip] = draw_strips(pocket, apple.request, ["guidance"])
    for variant in strip.variants:
        assert png(variant.image) == png(pocket.generate(variant.request).images[0])


def test_names_of_strips() -> None:
    assert strip_names("word, guidance,word") == ("word", "guidance")
    assert strip_names("none") == strip_names("") == ()
    assert strip_names("all") == tuple(STRIPS)
    with pytest.raises(InputError, match="unknown strip 'wrod': did you mean 'word'"):
        strip_names("wrod")


def test_regions_and_layers_in_words() -> None:
    values = torch.zeros(6, 6)
    values[5, 0] = 1
    assert region(values) == "bottom left"
    values[3, 3] = 2
    assert region(values) == "middle"
    assert layer_label("down_blocks.1.attentions.0.transformer_blocks.0") == "down 2.1"
    assert layer_label("mid_block.attentions.0.transformer_blocks.0") == "middle"
    assert layer_label("up_blocks.0.attentions.1.transformer_blocks.1") == "up 1.2.2"


def test_a_veil_is_clear_where_its_map_is_highest() -> None:
    values = torch.tensor([[0.0, 1.0], [2.0, 4.0]])
    stream = np.asarray(Image.open(io.BytesIO(veil(values))))
    assert stream[1, 1, 3] == 0
    assert stream[0, 0, 3] == stream[..., 3].max() > 200


@pytest.mark.parametrize("channels", [1, 2, 4, 12])
def test_false_colours_of_any_latents(channels: int) -> None:
    latents = torch.randn(channels, 5, 7, generator=torch.Generator().manual_seed(0))
    image = Image.open(io.BytesIO(FalseColours(latents).picture(latents)))
    assert image.size == (7, 5) and image.mode == "RGB"
    assert np.asarray(image).std() > 20
    assert FalseColours(latents).picture(latents) == FalseColours(latents.clone()).picture(latents)
