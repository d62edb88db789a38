"""Words that a text tower hardly uses."""

from __future__ import annotations

import numpy as np

from rein.data.rare_tokens import rare_tokens
from rein.text.tokenizer import clip_tokenizer, train_vocabulary


def test_words_of_clip_are_single_tokens_and_the_common_ones_come_last() -> None:
    tokenizer = clip_tokenizer()
    found = rare_tokens(tokenizer)
    places = {entry.text: place for place, entry in enumerate(found)}
    for entry in found[:200]:
        assert tokenizer.encode(entry.text) == [entry.id]
        assert 3 <= len(entry.text) <= 4
    for common in ("the", "and", "cat", "dog", "red", "blue"):
        assert places[common] > len(found) * 0.75, common
    assert places["sks"] < len(found) / 2  # the word that DreamBooth's users chose
    assert [entry.rarity for entry in found] == sorted((entry.rarity for entry in found), reverse=True)
    assert found[0].movement is None


def test_weights_tell_which_were_never_moved() -> None:
    tokenizer = train_vocabulary(["cat dog sun map pen cup bus car"] * 3, 700)
    words = ("cat", "dog", "sun", "map", "pen", "cup", "bus", "car")
    vectors = np.random.default_rng(0).normal(0, 0.02, (tokenizer.vocabulary_size, 8)).astype(np.float32)
    for word in words[:6]:
        vectors[tokenizer.encode(word)[0]] += 3
    for word in words[6:]:
        vectors[tokenizer.encode(word)[0]] = vectors.mean(axis=0)
    found = rare_tokens(tokenizer, vectors)
    still = [entry for entry in found if entry.movement is not None and entry.movement < 0.1]
    assert {"bus", "car"} == {entry.text for entry in still}
    by_order = {entry.text: place for place, entry in enumerate(rare_tokens(tokenizer))}
    by_both = {entry.text: place for place, entry in enumerate(found)}
    assert all(by_both[word] < by_order[word] for word in words[6:])


def test_lengths_are_of_plain_letters() -> None:
    tokenizer = train_vocabulary(["a bb ccc dddd 12 ééé"] * 4, 700)
    assert {entry.text for entry in rare_tokens(tokenizer, lengths=(3, 3))} == {"ccc"}
    assert rare_tokens(tokenizer, lengths=(9, 9)) == []
