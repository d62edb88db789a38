import pytest

from rein.data.words import plural, with_article


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("cat", "a cat"),
        ("apple", "an apple"),
        ("orange", "an orange"),
        ("unicorn", "a unicorn"),
        ("umbrella", "an umbrella"),
        ("hourglass", "an hourglass"),
        ("ufo", "a ufo"),
        ("x-ray", "an x-ray"),
        ("one-piece swimsuit", "a one-piece swimsuit"),
        ("ewe", "a ewe"),
        ("euro banknote", "a euro banknote"),
        ("ice cream cone", "an ice cream cone"),
        ("octopus", "an octopus"),
    ],
)
def test_article(phrase: str, expected: str) -> None:
    assert with_article(phrase) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat", "cats"),
        ("fox", "foxes"),
        ("bus", "buses"),
        ("cherry", "cherries"),
        ("monkey", "monkeys"),
        ("mouse", "mice"),
        ("computer mouse", "computer mice"),
        ("goose", "geese"),
        ("jellyfish", "jellyfish"),
        ("sheep", "sheep"),
        ("wolf", "wolves"),
        ("kitchen knife", "kitchen knives"),
        ("maple leaf", "maple leaves"),
        ("ball of yarn", "balls of yarn"),
        ("slice of pizza", "slices of pizza"),
        ("glass of wine", "glasses of wine"),
        ("cup with a straw", "cups with a straw"),
        ("box", "boxes"),
        ("torch", "torches"),
        ("paintbrush", "paintbrushes"),
        ("t-rex", "t-rexes"),
        ("old man", "old men"),
        ("snowman", "snowmen"),
        ("tornado", "tornadoes"),
        ("volcano", "volcanoes"),
        ("kangaroo", "kangaroos"),
    ],
)
def test_plural(name: str, expected: str) -> None:
    assert plural(name) == expected
