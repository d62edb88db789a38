from dataclasses import replace

import numpy as np
import pytest

from rein.data.held_out import HeldOut
from rein.data.icons import IconArt
from rein.errors import InputError
from rein.evaluation.classifier import Classifier, ClassifierConfig
from rein.evaluation.intervals import wilson
from rein.evaluation.obedience import (
    CLAIM_SEED,
    GROUPS,
    MEASURE_SEED,
    REAL_SEED,
    Examiner,
    Measure,
    Outcome,
    Question,
    choose_claims,
    claim_questions,
    measures,
    questions,
    worst_concepts,
)
from tests.evaluation.drawers import Change, Drawer, another_colour, another_style, another_thing

COUNTS = {"trained": 60, "held_out_style": 20, "colour": 60, "held_out_colour": 60, "pair": 30, "held_out_pair": 40}
ALL = tuple(range(16))


@pytest.fixture(scope="module")
def asked(art: IconArt) -> list[Question]:
    return questions(art, ALL, COUNTS)


def examined(
    classifier: Classifier, art: IconArt, asked: list[Question], change: Change = lambda prompt: prompt
) -> dict[tuple[str, str], Measure]:
    """The figures of a drawer, by group and name; the real pictures have other seeds."""
    examiner, draw = Examiner(classifier, art), Drawer(art, change)
    texts = [question.prompt.text for question in asked]
    drawn = examiner.outcomes(asked, draw(texts, [question.seed for question in asked]))
    real = examiner.outcomes(asked, Drawer(art)(texts, [question.seed + 10**6 for question in asked]))
    return {(entry.group, entry.name): entry for entry in measures(drawn, real)}


def test_a_perfect_drawer_reaches_the_ceiling(classifier: Classifier, art: IconArt, asked: list[Question]) -> None:
    found = examined(classifier, art, asked)
    for key, entry in found.items():
        assert entry.drawn.low <= entry.real.high and entry.real.low <= entry.drawn.high, key
    assert found["trained", "concept"].drawn.rate > 0.9
    assert found["held_out_style", "concept"].drawn.rate > 0.85
    assert found["held_out_colour", "colour"].drawn.rate > 0.85
    assert found["held_out_pair", "concept"].drawn.rate > 0.8
    assert found["held_out_pair", "any"].drawn.rate >= found["held_out_pair", "concept"].drawn.rate


def test_a_drawer_of_other_things_gets_next_to_nothing(
    classifier: Classifier, art: IconArt, asked: list[Question]
) -> None:
    found = examined(classifier, art, asked, another_thing)
    for group in GROUPS:
        assert found[group.name, "concept"].drawn.rate < 0.1, group.name
        assert found[group.name, "concept"].real.rate > 0.75, group.name


def test_a_drawer_of_other_colours_fails_the_colour_only(
    classifier: Classifier, art: IconArt, asked: list[Question]
) -> None:
    found = examined(classifier, art, asked, another_colour)
    for group in ("colour", "held_out_colour"):
        assert found[group, "colour"].drawn.rate < 0.1
        assert found[group, "both"].drawn.rate < 0.1
        assert found[group, "concept"].drawn.rate > 0.7
    assert found["trained", "concept"].drawn.rate > 0.9


def test_colours_that_are_left_out_fail(classifier: Classifier, art: IconArt, asked: list[Question]) -> None:
    """A drawer that gives every thing its own colours has not drawn the colour word."""
    found = examined(classifier, art, asked, lambda prompt: replace(prompt, colour=None))
    assert found["held_out_colour", "colour"].drawn.rate < 0.1


def test_a_single_drawing_is_not_two_things(classifier: Classifier, art: IconArt, asked: list[Question]) -> None:
    found = examined(classifier, art, asked, lambda prompt: replace(prompt, concepts=prompt.concepts[:1]))
    assert found["held_out_pair", "concept"].drawn.rate < 0.2


def test_style_is_counted(classifier: Classifier, art: IconArt, asked: list[Question]) -> None:
    right, wrong = (
        examined(classifier, art, asked, c)["trained", "style"].drawn.rate for c in (lambda p: p, another_style)
    )
    assert right == pytest.approx(1 - wrong, abs=0.15) and right > wrong


def test_what_is_asked_is_what_the_group_says(art: IconArt, asked: list[Question]) -> None:
    held = HeldOut(art)
    assert len({question.order for question in asked}) == len(asked)
    assert all(MEASURE_SEED <= question.seed < REAL_SEED for question in asked)
    for question in asked:
        prompt, group = question.prompt, next(g for g in GROUPS if g.name == question.group)
        assert prompt.kind == group.kind
        if group.kind == "plain":
            assert (held.styles[prompt.concepts[0]] == prompt.style) == group.held_out
        elif group.kind == "colour":
            assert (prompt.colour in held.held_colours[prompt.concepts[0]]) == group.held_out
        else:
            assert held.pair(*prompt.concepts) == group.held_out
    counted = {group.name: sum(q.group == group.name for q in asked) for group in GROUPS}
    assert all(0 < counted[name] <= most for name, most in COUNTS.items())
    assert counted["held_out_pair"] == min(40, counted["held_out_pair"])


def test_what_is_asked_changes_little_with_the_claims(art: IconArt) -> None:
    """Pictures that are drawn stay of use when a concept is claimed no more."""
    counts = {"trained": 12, "held_out_style": 0, "colour": 20, "held_out_colour": 9, "pair": 0, "held_out_pair": 0}
    before = [question for question in questions(art, ALL, counts) if 3 not in question.prompt.concepts]
    after = {question.order for question in questions(art, [c for c in ALL if c != 3], counts)}
    assert after.issuperset(question.order for question in before)
    assert {q.order for q in questions(art, ALL, counts, seed=1)} != {q.order for q in questions(art, ALL, counts)}


def test_only_claimed_concepts_are_asked_and_named(classifier: Classifier, art: IconArt) -> None:
    claimed = [1, 3, 4, 8, 9, 12]
    asked = questions(art, claimed, COUNTS)
    assert {concept for question in asked for concept in question.prompt.concepts} <= set(claimed)
    wrong = Drawer(art, another_thing)([q.prompt.text for q in asked], [q.seed for q in asked])
    named = {c for outcome in Examiner(classifier, art, claimed).outcomes(asked, wrong) for c in outcome.named}
    assert named <= set(claimed)


def test_claims_are_chosen_by_what_is_drawn_well(classifier: Classifier, art: IconArt) -> None:
    """A drawer that always fails at three things: they are not claimed, unless more are needed than it knows."""
    failing = {2, 5, 11}
    draw = Drawer(art, lambda prompt: another_thing(prompt) if prompt.concepts[0] in failing else prompt)
    asked = claim_questions(art)
    assert all(CLAIM_SEED <= question.seed < MEASURE_SEED for question in asked)
    assert len({question.order for question in asked}) == len(asked)
    outcomes = Examiner(classifier, art).outcomes(asked, draw(*zip(*(q.order for q in asked), strict=True)))
    assert set(choose_claims(outcomes, art, at_least=5)).isdisjoint(failing)
    assert len(choose_claims(outcomes, art, at_least=5)) >= 12
    assert choose_claims(outcomes, art, at_least=300) == list(ALL)
    worst = worst_concepts(outcomes, art)
    assert {entry.concept for entry in worst[:3]} == {art.concepts[concept].name for concept in failing}
    assert all(entry.right == 0 and entry.total >= 1 for entry in worst[:3])
    by_name = {concept.name: place for place, concept in enumerate(art.concepts)}
    assert all(by_name[entry.taken_for] == (by_name[entry.concept] + 4) % 16 for entry in worst[:3])


def test_counting_by_hand(art: IconArt, asked: list[Question]) -> None:
    trained = [question for question in asked if question.group == "trained"][:4]
    right = [True, True, False, True]
    outcomes = [
        Outcome(q, q.prompt.concepts, q.prompt.style, None, {"concept": r, "style": True, "both": r, "any": r})
        for q, r in zip(trained, right, strict=True)
    ]
    [concept, style, both] = measures(outcomes, outcomes[:2])
    assert (concept.drawn.right, concept.drawn.total, concept.real.right, concept.real.total) == (3, 4, 2, 2)
    assert (concept.drawn.low, concept.drawn.high) == wilson(3, 4)
    assert concept.floor == 0.80 and style.floor is None and both.name == "both"


def test_wrong_calls(classifier: Classifier, art: IconArt) -> None:
    with pytest.raises(InputError, match="unknown group of prompts 'triple'"):
        questions(art, ALL, {"triple": 3})
    with pytest.raises(InputError, match="count of pair prompts is -1"):
        questions(art, ALL, {"pair": -1})
    assert questions(art, ALL, {group.name: 0 for group in GROUPS}) == []
    assert Examiner(classifier, art).outcomes([], np.empty((0, 0, 0, 3), np.uint8)) == []
    other = Classifier(ClassifierConfig(("sun",), ("flat",), ("red",), (8,), (1,)))
    with pytest.raises(InputError, match="the judge does not know the concept 'disc'"):
        Examiner(other, art)
