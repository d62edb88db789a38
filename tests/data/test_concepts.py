from pathlib import Path

import pytest

from rein.data.concepts import Concept, parse_concepts, read_concepts
from rein.errors import InputError


def test_the_shipped_list_holds_the_concepts_of_both_recipes() -> None:
    concepts = read_concepts()
    assert len(concepts) >= 1500
    assert [concept.name for concept in concepts[:3]] == ["cat", "dog", "apple"]
    assert all(name == name.lower().strip() and name for concept in concepts for name in concept.names)
    assert read_concepts(count=330) == concepts[:330]


def test_a_line_tells_names_and_how_they_behave() -> None:
    bread, eye, apple = parse_concepts(
        "# a comment\n\nbread | ~bread | loaf of bread\neye-1 | eye | | natural fixed\nred-apple | red apple | apple\n",
        "list",
    )
    assert bread == Concept("bread", "bread", ("loaf of bread",), frozenset({"bread"}))
    assert bread.countable_names == ()
    assert eye.fixed and eye.natural and eye.names == ("eye",)
    assert apple.colourless_names == ("apple",)
    assert apple.countable_names == ("red apple", "apple")


def test_joined_things_are_not_counted() -> None:
    (cutlery,) = parse_concepts("fork | fork and knife | ~cutlery", "list")
    assert cutlery.countable_names == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("cat", "line 1: 'cat' is not 'icon | name"),
        ("cat | ", "line 1: 'cat | ' is not"),
        ("cat | cat | | | x", "line 1: .* is not"),
        ("cat | cat | | fixxed", "unknown note 'fixxed'; notes are fixed, natural"),
        ("cat | cat\ndog | dog | cat", "line 2: 'cat' stands twice"),
        ("cat | cat\ncat | dog", "line 2: 'icon cat' stands twice"),
        ("cat | cat | a,,b", "has an empty name"),
        ("cat | ~", "has an empty name"),
    ],
)
def test_a_bad_line_is_named(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        parse_concepts(text, "list")


def test_a_bad_file_or_count_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing.txt cannot be read"):
        read_concepts(tmp_path / "missing.txt")
    (tmp_path / "latin").write_bytes(b"caf\xe9 | cafe")
    with pytest.raises(InputError, match="latin cannot be read"):
        read_concepts(tmp_path / "latin")
    (tmp_path / "short").write_text("cat | cat")
    with pytest.raises(InputError, match="concept_count is 2; .* has 1 to 1"):
        read_concepts(tmp_path / "short", 2)
