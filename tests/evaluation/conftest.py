"""The sixteen drawings, and a small judge that learned them: trained once for all tests."""

from dataclasses import replace

import pytest
import torch

from rein.data.icons import IconArt
from rein.evaluation.classifier import Classifier
from rein.evaluation.damage import DamageOptions
from rein.evaluation.learning import JudgeTraining, LearningOptions
from tests.data.drawings import drawn_options

GENTLE = DamageOptions(warp=0.3, blur=0.2, noise=0.2, blotches=0.1, tint=0.3, patches=0.1, jpeg=0.02, strength=0.5)
"""The drawings of the tests differ less than real ones; a boat wiped out by a patch is a bar."""


@pytest.fixture(scope="session")
def art(tmp_path_factory: pytest.TempPathFactory) -> IconArt:
    return IconArt(drawn_options(tmp_path_factory.mktemp("art")))


@pytest.fixture(scope="session")
def learned(art: IconArt) -> tuple[Classifier, list[dict[str, float]]]:
    """The judge, and the losses of its lessons."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    options = LearningOptions(steps=360, batch_size=48, views=2000, warm_up=20, bf16=False, widths=(16, 32, 48))
    training = JudgeTraining(art.options, replace(options, damage=GENTLE))
    losses = [lesson.losses for lesson in training.run()]
    torch.set_num_threads(before)
    return training.classifier, losses


@pytest.fixture(scope="session")
def classifier(learned: tuple[Classifier, list[dict[str, float]]]) -> Classifier:
    return learned[0]
