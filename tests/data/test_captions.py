import re
from random import Random

import pytest

from rein.data.captions import caption, noun_phrase
from rein.data.colours import COLOUR_NAMES
from rein.data.compose import ArtDataset
from rein.data.concepts import Concept, read_concepts
from rein.data.icons import IconArt
from rein.data.scenes import Scene, Thing

CONCEPTS = (
    Concept("apple", "apple", ("red apple",)),
    Concept("bread", "bread", ("loaf of bread",), frozenset({"bread"})),
    Concept("mouse", "mouse"),
    Concept("star", "star"),
)
STYLES = ("flat", "glossy")


def captions(scene: Scene, count: int = 400) -> set[str]:
    random = Random(0)
    return {caption(scene, CONCEPTS, STYLES, random) for _ in range(count)}


def test_one_thing_is_said_in_every_way() -> None:
    said = captions(Scene("plain", 0, (Thing(0),)))
    assert said == {
        pattern.format(name)
        for name in ("an apple", "a red apple")
        for pattern in ("{}, flat style", "{} in flat style", "flat style picture of {}", "{}", "a picture of {}")
    }


def test_a_given_colour_is_never_contradicted() -> None:
    said = captions(Scene("colour", 1, (Thing(0, colour=COLOUR_NAMES.index("blue")),)))
    assert all("a blue apple" in text and "red" not in text for text in said)


def test_a_bare_name_has_no_article_and_its_other_name_has_one() -> None:
    said = captions(Scene("plain", 0, (Thing(1),)))
    assert {"bread, flat style", "a loaf of bread, flat style"} <= said
    assert not any("a bread" in text for text in said)


def test_counts_have_plurals() -> None:
    said = captions(Scene("count", 0, (Thing(2),) * 3))
    assert {"three mice", "3 mice"} <= said
    assert all(re.search(r"\b(three|3) mice\b", text) for text in said)


def test_places_and_grounds_are_said() -> None:
    said = captions(Scene("position", 0, (Thing(3),), ground="light blue", place="in the top left corner"))
    assert "a small star in the top left corner on a light blue background, flat style" in said
    assert all("small star in the top left corner on a light blue background" in text for text in said)
    assert "an apple on an orange background" in captions(Scene("background", 0, (Thing(0),), ground="orange"))


@pytest.mark.parametrize(
    ("relation", "expected"),
    [
        (
            "beside",
            {"{a} and {b}", "{a} to the left of {b}", "{b} to the right of {a}", "{a} next to {b}"},
        ),
        ("above", {"{a} above {b}", "{b} below {a}"}),
    ],
)
def test_relations_are_true(relation: str, expected: set[str]) -> None:
    said = captions(Scene("pair", 0, (Thing(2), Thing(3)), relation=relation))
    plain = {text.removesuffix(", flat style") for text in said if text.endswith(", flat style")}
    assert plain == {pattern.format(a="a mouse", b="a star") for pattern in expected}


def test_three_things_are_named_in_reading_order() -> None:
    said = {
        text.removesuffix(", flat style")
        for text in captions(Scene("triple", 0, (Thing(1), Thing(2), Thing(3))))
        if text.endswith("style") and "loaf" not in text and not text.startswith("flat") and " in " not in text
    }
    assert said == {"bread, a mouse and a star"}


def test_noun_phrases() -> None:
    assert noun_phrase(CONCEPTS[0], "apple", COLOUR_NAMES.index("orange"), small=True) == "a small orange apple"
    assert noun_phrase(CONCEPTS[1], "bread", COLOUR_NAMES.index("blue")) == "blue bread"


def test_shipped_words_make_clean_captions() -> None:
    concepts, random = read_concepts(), Random(1)
    for index in range(len(concepts)):
        text = caption(Scene("plain", 0, (Thing(index),)), concepts, STYLES, random)
        assert text == " ".join(text.split()) and "~" not in text and "|" not in text
        assert not re.search(r"\ba (?!euro|one)[aeio]", text), text


def test_captions_agree_with_where_things_are(art: IconArt) -> None:
    dataset = ArtDataset(art.options, "train", art)
    checked = 0
    for index in range(3000):
        label = dataset.label(index)
        if label.kind != "pair" or any(colour is not None for colour in label.colours):
            continue
        first, second = (art.concepts[concept] for concept in label.concepts)
        for text in label.captions:
            if " to the left of " in text or " above " in text:
                left, right = re.split(" to the left of | above ", text)
            elif " to the right of " in text or " below " in text:
                right, left = re.split(" to the right of | below ", text)
            else:
                continue
            assert any(name in left for name in first.names) and any(name in right for name in second.names)
            checked += 1
    assert checked > 100
