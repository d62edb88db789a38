"""The judge's score of a single picture: what a prompt asks for, and that a real picture of it scores higher."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from rein.data.colours import BACKGROUNDS, COLOURS, Colour, from_oklab
from rein.data.icons import IconArt
from rein.data.prompts import trained_prompts
from rein.evaluation.classifier import Classifier
from rein.evaluation.real import real_pictures
from rein.evaluation.score import Asked, Scorer, main_colour_name


@pytest.fixture(scope="module")
def shipped() -> Scorer:
    return Scorer()


def asked(scorer: Scorer, prompt: str) -> tuple[list[str], str | None, str | None] | None:
    found = scorer.asked(prompt)
    if found is None:
        return None
    config = scorer._classifier.config
    style = None if found.style is None else config.styles[found.style]
    colour = None if found.colour is None else config.colours[found.colour]
    return [config.concepts[place] for place in found.concepts], style, colour


def test_what_prompts_ask_for(shipped: Scorer) -> None:
    [owl] = asked(shipped, "an owl")[0]  # type: ignore[index]
    assert asked(shipped, "an owl") == ([owl], None, None)
    assert asked(shipped, "A (blue:1.2) OWL, flat style") == ([owl], "flat", "blue")
    assert asked(shipped, "cartoon style picture of an owl on a red background") == ([owl], "cartoon", None)
    pair = asked(shipped, "a red car and a green owl in sticker style")
    assert pair is not None and pair[0][1] == owl and pair[1:] == ("sticker", "red")


@pytest.mark.parametrize("prompt", ["", "a photograph of nothing", "two owls", "an owl, an owl and an owl"])
def test_where_the_judge_has_no_say(shipped: Scorer, prompt: str) -> None:
    assert shipped.asked(prompt) is None
    assert shipped.score(prompt, Image.new("RGB", (64, 64))) is None


def test_a_colour_that_is_a_thing_too(shipped: Scorer) -> None:
    """An orange is a thing, in "an orange car" it is a colour, before "background" it is neither."""
    fruit, car, ground = (
        shipped.asked(text) for text in ("an orange", "an orange car", "a car on an orange background")
    )
    assert car is not None and ground is not None
    assert len(car.concepts) == len(ground.concepts) == 1
    assert car.colour is not None and ground.colour is None
    assert fruit is None or fruit.colour is None


@pytest.mark.parametrize("colour", COLOURS, ids=lambda colour: colour.name)
@pytest.mark.parametrize("ground", ["light yellow", "dark blue"])
def test_the_main_colour_of_a_picture(colour: Colour, ground: str) -> None:
    angle = math.radians(colour.hue)
    lab = [[colour.lightness, colour.chroma * math.cos(angle), colour.chroma * math.sin(angle)]]
    pixels = np.full((64, 64, 3), BACKGROUNDS[ground], dtype=np.uint8)
    pixels[20:40, 20:44] = from_oklab(np.array(lab, dtype=np.float32))[0]
    assert main_colour_name(pixels) == colour.name


@pytest.mark.parametrize("kind", ["plain", "colour", "pair"])
def test_real_pictures_score_higher_than_those_of_other_prompts(
    classifier: Classifier, art: IconArt, kind: str
) -> None:
    prompts = trained_prompts(art, kind, 24)
    pictures = [Image.fromarray(pixels) for pixels in real_pictures(art, prompts, range(len(prompts)))]
    scorer = Scorer(classifier, art.concepts)
    own, other = [], []
    for place, prompt in enumerate(prompts):
        found = scorer.asked(prompt.text)
        assert found is not None and found.concepts == prompt.concepts
        scores = [scorer.score(prompt.text, picture) for picture in (pictures[place], pictures[place - 5])]
        assert all(score is not None and 0 <= score <= 1 for score in scores)
        own.append(scores[0] or 0.0)
        other.append(scores[1] or 0.0)
    assert sum(own) > 2 * sum(other)
    assert isinstance(scorer.asked(prompts[0].text), Asked)
