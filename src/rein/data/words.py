"""English noun phrases: articles and plurals for the names of things."""

from __future__ import annotations

NUMBER_WORDS = {2: "two", 3: "three", 4: "four"}

_IRREGULAR = {
    "mouse": "mice", "goose": "geese", "tooth": "teeth", "foot": "feet", "ox": "oxen", "person": "people",
    "child": "children", "leaf": "leaves", "wolf": "wolves", "knife": "knives", "scarf": "scarves", "dice": "dice",
    "die": "dice", "sheep": "sheep", "deer": "deer", "shrimp": "shrimp", "squid": "squid", "bison": "bison",
    "moose": "moose", "sushi": "sushi", "potato": "potatoes", "tomato": "tomatoes", "mango": "mangoes",
    "volcano": "volcanoes", "tornado": "tornadoes", "cactus": "cacti", "bus": "buses", "aircraft": "aircraft",
    "spacecraft": "spacecraft", "hero": "heroes", "loaf": "loaves", "calf": "calves", "elf": "elves",
    "half": "halves",
}  # fmt: skip
_JOINTS = (" of ", " with ", " in ", " on ", " at ", " from ", " behind ", " to ")
_SOUNDS_LIKE_CONSONANT = ("uni", "use", "ufo", "ukulele", "euro", "ewe", "one-", "one ")
_SOUNDS_LIKE_VOWEL = ("hour", "honest", "heir", "x-ray", "sos", "mp")


def with_article(phrase: str) -> str:
    """ "a cat", "an apple", "a unicorn", "an hourglass"."""
    vowel = phrase[:1] in "aeiou8" and not phrase.startswith(_SOUNDS_LIKE_CONSONANT)
    return f"{'an' if vowel or phrase.startswith(_SOUNDS_LIKE_VOWEL) else 'a'} {phrase}"


def plural(name: str) -> str:
    """The plural of a thing's name; in "ball of yarn" the head is what changes."""
    for joint in _JOINTS:
        head, found, rest = name.partition(joint)
        if found:
            return plural(head) + joint + rest
    start, space, last = name.rpartition(" ")
    return start + space + _plural_word(last)


def _plural_word(word: str) -> str:
    start, hyphen, last = word.rpartition("-")
    if last in _IRREGULAR:
        return start + hyphen + _IRREGULAR[last]
    if word.endswith("fish"):
        return word
    if word.endswith("man") and word != "human":
        return f"{word[:-3]}men"
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"
