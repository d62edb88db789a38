from dataclasses import replace

import numpy as np
import pytest
import torch

from rein.data.colours import COLOURS
from rein.data.held_out import HeldOut
from rein.data.icons import IconArt
from rein.errors import InputError
from rein.evaluation.classifier import Classifier, judge
from rein.evaluation.learning import (
    IGNORED,
    JUDGE_MIXTURE,
    JudgeTraining,
    LearningOptions,
    drawn_lessons,
    judge_losses,
)


@pytest.fixture(scope="module")
def everything(art: IconArt) -> IconArt:
    return IconArt(replace(art.options, held_out_share=0.0, mixture=JUDGE_MIXTURE))


def test_the_losses_fall(learned: tuple[Classifier, list[dict[str, float]]]) -> None:
    _, losses = learned
    for name in ("concepts", "colours"):
        first, last = (np.mean([loss[name] for loss in part]) for part in (losses[:5], losses[-20:]))
        assert last < 0.25 * first, name


def test_fresh_views_are_recognised(classifier: Classifier, everything: IconArt) -> None:
    """Views of another seed, undamaged: one in sixteen would be right by chance."""
    fresh = drawn_lessons(everything, 300, seed=77)
    verdict = judge(classifier, fresh.views.permute(0, 2, 3, 1).numpy())
    shown = fresh.concepts < len(everything.concepts)
    assert (verdict.concepts.argmax(dim=1) == fresh.concepts)[shown].float().mean() > 0.9
    coloured = fresh.colours != IGNORED
    assert (verdict.colours.argmax(dim=1) == fresh.colours)[coloured].float().mean() > 0.85


def test_the_judge_learns_what_is_held_out_from_generators(everything: IconArt, art: IconArt) -> None:
    held = HeldOut(art)
    pairs = [(concept, style) for concept, style in enumerate(held.styles) if style is not None]
    lessons = drawn_lessons(everything, 400, seed=1)
    shown = set(zip(lessons.concepts.tolist(), lessons.styles.tolist(), strict=True))
    assert pairs and shown.issuperset(pairs)


def test_what_cannot_be_told_is_not_judged(everything: IconArt) -> None:
    lessons, held = drawn_lessons(everything, 400, seed=2), HeldOut(everything)
    nothing = len(everything.concepts)
    for concept, colour in zip(lessons.concepts.tolist(), lessons.colours.tolist(), strict=True):
        if concept == nothing:
            assert colour == IGNORED
        elif colour > 0:
            assert colour - 1 not in held.own_colours[concept], COLOURS[colour - 1].name
    assert (lessons.colours == 0).any() and (lessons.colours > 0).any()


def test_losses_without_a_judged_colour_are_finite(everything: IconArt, classifier: Classifier) -> None:
    lessons = drawn_lessons(everything, 4, seed=2)
    lessons = replace(lessons, colours=torch.full((4,), IGNORED))
    losses = judge_losses(classifier(lessons.views.float() / 127.5 - 1), lessons)
    assert losses["colours"] == 0 and torch.isfinite(losses["loss"])


def test_training_is_the_same_again(art: IconArt) -> None:
    options = LearningOptions(steps=3, batch_size=4, views=12, warm_up=1, bf16=False, widths=(8, 16))
    runs = [[lesson.losses for lesson in JudgeTraining(art.options, options).run()] for _ in range(2)]
    assert runs[0] == runs[1] and len(runs[0]) == 3


def test_options_out_of_range() -> None:
    with pytest.raises(InputError, match="views is 0; it must be at least 1"):
        LearningOptions(views=0)
