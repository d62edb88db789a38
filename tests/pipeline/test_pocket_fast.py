"""The embedded few-step model: whole, small, and it draws what is asked for in four steps without guidance."""

import pytest

from rein.evaluation.score import Scorer
from rein.formats.embedded import EMBEDDED, embedded_folder
from rein.formats.folder import read_description
from rein.formats.inspect import inspect_folder
from rein.nn.specs import POCKET_FAST
from rein.pipeline.model import Model, load

NAME = "pocket-fast"
PROMPTS = ("a red apple", "a cat", "a fish", "a house", "a car", "a star", "a tree", "a key")


@pytest.fixture(scope="module")
def model() -> Model:
    return load(NAME)


def test_it_holds_its_unet_alone() -> None:
    folder, description = embedded_folder(NAME), read_description(embedded_folder(NAME))
    assert NAME in EMBEDDED and description.spec == POCKET_FAST
    assert [path.name for path in folder.glob("*.safetensors")] == ["unet.safetensors"]
    assert (folder / "unet.safetensors").stat().st_size <= 28e6
    assert {record.of for record in description.files.values()} == {"", "pocket"}
    assert not inspect_folder(folder).problems


def test_it_draws_in_four_steps_unless_told_otherwise(model: Model) -> None:
    result = model.generate("a red apple", seed=1)
    told = result.request
    assert (told.steps, told.guidance_scale, told.sampler, told.spacing) == (4, 1.0, "euler", "trailing")
    assert model.generate("a red apple", seed=1, steps=2).images[0].tobytes() != result.images[0].tobytes()


def test_its_pictures_show_what_is_asked_for(model: Model) -> None:
    scorer = Scorer()
    scores = [scorer.score(prompt, model.generate(prompt, seed=5).images[0]) for prompt in PROMPTS]
    assert sum(score is not None and score >= 0.5 for score in scores) >= 7
