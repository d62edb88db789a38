from itertools import combinations

import pytest

from rein.data.colours import COLOUR_NAMES
from rein.data.held_out import HeldOut
from rein.data.icons import IconArt
from rein.data.prompts import EVALUATION_KINDS, held_out_prompts, trained_prompts
from rein.errors import InputError


def test_plain_prompts_are_all_styles_of_all_things(art: IconArt) -> None:
    trained, held = trained_prompts(art, "plain"), held_out_prompts(art, "plain")
    pairs = [(prompt.concepts[0], prompt.style) for prompt in trained + held]
    assert sorted(pairs) == [(concept, style) for concept in range(16) for style in range(2)]
    assert trained[0].text == f"a disc, {art.styles[trained[0].style]} style"
    styles = HeldOut(art).styles
    assert held and all(styles[prompt.concepts[0]] == prompt.style for prompt in held)


def test_colour_prompts_ask_for_colours_that_things_have_not(art: IconArt) -> None:
    held = HeldOut(art)
    trained, kept = trained_prompts(art, "colour"), held_out_prompts(art, "colour")
    assert trained and kept
    for prompt in trained + kept:
        concept, colour = prompt.concepts[0], prompt.colour
        assert colour is not None and COLOUR_NAMES[colour] in prompt.text and "red eye" not in prompt.text
        assert colour not in held.own_colours[concept] and prompt.style in held.trained_styles[concept]
        assert (colour in held.held_colours[concept]) == (prompt in kept)


def test_pair_prompts_are_of_both_things_in_a_trained_style(art: IconArt) -> None:
    held = HeldOut(art)
    kept = held_out_prompts(art, "pair")
    expected = {
        frozenset(pair)
        for pair in combinations(range(16), 2)
        if held.pair(*pair) and set(held.trained_styles[pair[0]]) & set(held.trained_styles[pair[1]])
    }
    assert {frozenset(prompt.concepts) for prompt in kept} == expected and len(kept) == len(expected)
    assert all(held.styles[concept] != prompt.style for prompt in kept for concept in prompt.concepts)
    assert not any(held.pair(*prompt.concepts) for prompt in trained_prompts(art, "pair", 30))


@pytest.mark.parametrize("kind", EVALUATION_KINDS)
def test_a_number_of_prompts_is_chosen_by_the_seed(kind: str, art: IconArt) -> None:
    some = trained_prompts(art, kind, 5)
    assert len({prompt.text for prompt in some}) == 5
    assert some == trained_prompts(art, kind, 5) != trained_prompts(art, kind, 5, seed=1)


def test_a_bad_kind_or_count_is_named(art: IconArt) -> None:
    with pytest.raises(InputError, match="unknown kind of prompt 'colours': did you mean 'colour'"):
        trained_prompts(art, "colours")
    with pytest.raises(InputError, match="count is 0"):
        held_out_prompts(art, "plain", 0)
