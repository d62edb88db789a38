"""What a model answered before a lesson: it is asked the same again, and can be held to it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from rein.training.answers import KeptAnswers
from rein.training.lora import LoraObjective
from rein.training.noising import NoiseLoss
from rein.training.tables_teach import LoraTable
from rein.training.teach import Lessons
from tests.training.lessons import COMMON, latents, loop, model

PROMPTS = ("an apple", "a pear", "a house", "a cat")


def test_questions_cover_every_prompt_and_no_words_and_are_answered_as_the_model_does() -> None:
    asked: list[tuple[str, bool]] = []

    def answer(x: Tensor, timestep: Tensor, texts: Sequence[str], dropped: Tensor) -> Tensor:
        asked.extend(zip(texts, dropped.tolist(), strict=True))
        return x * 2 + timestep.reshape(-1, 1, 1, 1)

    table = LoraTable(objective="lora", **COMMON)
    kept = KeptAnswers.of(answer, latents(3, "never read"), PROMPTS, NoiseLoss.of(table, model("sd1").spec), 8)
    assert len(kept.texts) == 24 and asked == list(zip(kept.texts, kept.dropped.tolist(), strict=True))
    assert all((text == "") == gone for text, gone in asked) and sum(gone for _, gone in asked) == 6
    assert [text for text, _ in asked if text] == [PROMPTS[place % 4] for place in range(18)]
    assert torch.equal(kept.answers, kept.shown * 2 + kept.timestep.reshape(-1, 1, 1, 1))
    assert len(kept.timestep.unique()) > 12
    assert kept.drift(answer) == 0.0
    twice = kept.drift(lambda *question: 3 * answer(*question))
    assert abs(twice - 2.0) < 1e-5
    off = kept.error(lambda *question: answer(*question) + 0.5, 7, torch.Generator().manual_seed(1))
    assert abs(float(off) - 0.25) < 1e-3


def drift(folder: Path, weight: float) -> tuple[float, float]:
    """Drift of the class, and loss of the lesson, after a hard lesson with answers that count so much."""
    prior = {"prompt": "an apple", "others": PROMPTS, "pictures": 3, "keep": "answers", "weight": weight}
    options = COMMON | {"steps": 12, "learning_rate": 3e-2, "caption_dropout": 0.0}
    table = LoraTable(objective="lora", rank=4, prior=prior, **options)  # type: ignore[arg-type]
    lessons = Lessons(latents(4, "a red apple"), (), latents(3, "an apple", 2))
    numbers = [report.validation for report in loop(folder, LoraObjective(model("sd1"), table, lessons)).run()][-1]
    return numbers["class_drift"], numbers["fixed_loss"]


def test_what_is_kept_moves_less_the_more_it_counts(tmp_path: Path) -> None:
    free, _ = drift(tmp_path / "free", 1e-6)
    held, _ = drift(tmp_path / "held", 30.0)
    assert 0 < held < 0.6 * free
