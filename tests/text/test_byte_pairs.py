"""Learned merges against hand-worked examples and a slow recount of every pair; properties of a trained vocabulary."""

import random
import string
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rein.errors import InputError
from rein.text.byte_pairs import LETTER_BYTES, learn_merges
from rein.text.tokenizer import clip_tokenizer, train_vocabulary

CAPTIONS = [
    f"{count} {colour} {thing}, {style} style"
    for count in ("a", "two", "three")
    for colour in ("red", "green", "blue", "golden")
    for thing in ("apple", "fire engine", "frog's hat", "café", "ant")
    for style in ("flat", "noto", "drawn")
]
SMALL = train_vocabulary(CAPTIONS, 600)


def slow_merges(counts: dict[str, int], number: int) -> list[tuple[str, str]]:
    """Algorithm 1 of Sennrich et al.: count everything anew for every merge; ties go to the first pair in order."""
    words = {word: [*word[:-1], word[-1] + "</w>"] for word in counts}
    merges: list[tuple[str, str]] = []
    while len(merges) < number:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, symbols in words.items():
            for pair in pairwise(symbols):
                pairs[pair] += counts[word]
        if not pairs or max(pairs.values()) < 2:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for symbols in words.values():
            place = 0
            while place < len(symbols) - 1:
                if (symbols[place], symbols[place + 1]) == best:
                    symbols[place : place + 2] = ["".join(best)]
                place += 1
    return merges


def test_a_hand_worked_example() -> None:
    # ("a", "b") occurs 5 times; after it ("ab", "c</w>") 3 times and ("ab", "d</w>") twice.
    assert learn_merges({"abc": 3, "abd": 2}, 10) == [("a", "b"), ("ab", "c</w>"), ("ab", "d</w>")]
    assert learn_merges({"aaa": 1, "aa": 1}, 10) == [("a", "a</w>")]
    assert learn_merges({"aaaaa": 1}, 10) == [("a", "a")]
    assert learn_merges({"once": 1}, 10) == []
    assert learn_merges({}, 10) == []


@settings(max_examples=300)
@given(
    counts=st.dictionaries(st.text("abc", min_size=1, max_size=9), st.integers(1, 4), max_size=8),
    number=st.integers(0, 12),
)
def test_the_quick_way_equals_the_slow_way(counts: dict[str, int], number: int) -> None:
    assert learn_merges(counts, number) == slow_merges(counts, number)


def test_letters_stand_for_bytes_in_the_order_of_clip() -> None:
    assert sorted(LETTER_BYTES.values()) == list(range(256))
    assert [clip_tokenizer().encode(letter) for letter in "!~"] == [[256], [256 + 93]]
    assert list(LETTER_BYTES) == sorted(LETTER_BYTES)
    assert list(LETTER_BYTES)[:94] == [chr(code) for code in range(0x21, 0x7F)]


def test_same_captions_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    shuffled = random.Random(3).sample(CAPTIONS, len(CAPTIONS))
    first = train_vocabulary(CAPTIONS, 600).save(tmp_path / "first")
    second = train_vocabulary(iter(shuffled), 600).save(tmp_path / "second")
    assert first.read_bytes() == second.read_bytes()
    other = train_vocabulary(CAPTIONS[: len(CAPTIONS) // 2], 600).save(tmp_path / "other")
    assert other.read_bytes() != first.read_bytes()


def test_size_is_kept_and_ids_follow_clip() -> None:
    tokenizer = train_vocabulary(CAPTIONS, 560)
    assert tokenizer.vocabulary_size == 560
    assert (tokenizer.start, tokenizer.end, tokenizer.pad) == (558, 559, 559)
    assert train_vocabulary(CAPTIONS, 514).encode("abc") == [64, 65, 256 + 66]
    assert train_vocabulary(["a b c"], 2000).vocabulary_size == 514
    with pytest.raises(InputError, match=r"size must be 514 or more .* got 513"):
        train_vocabulary(CAPTIONS, 513)


def test_frequent_words_become_one_token() -> None:
    tokenizer = train_vocabulary(CAPTIONS, 700)
    ids = tokenizer.encode("Two GOLDEN apple, flat style")
    assert len(ids) == 6
    assert tokenizer.decode(ids) == "two golden apple , flat style"


@settings(max_examples=200)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text(string.printable, max_size=60))
def test_any_text_comes_back_whole(text: str) -> None:
    """There is no unknown token: words that were never seen fall into bytes and come back."""
    tokenizer = SMALL
    ids = tokenizer.encode(text)
    assert all(0 <= number < tokenizer.start for number in ids)
    reference = clip_tokenizer()
    assert tokenizer.decode(ids) == reference.decode(reference.encode(text))
