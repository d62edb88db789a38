from pathlib import Path

import numpy as np
import pytest

from rein.errors import InputError
from rein.evaluation.subject import model_subject
from rein.pipeline.model import Model, load
from tests.pipeline.small import save_small


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(save_small(tmp_path_factory.mktemp("small"), "pocket"), "cpu", "float32")


def test_it_draws_what_the_model_draws(model: Model) -> None:
    subject = model_subject(model, steps=2, guidance_scale=3.0)
    drawn = [np.array(picture) for picture in subject.draw(["a sun", "a moon", "a sun"], [5, 5, 6])]
    for picture, (prompt, seed) in zip(drawn, [("a sun", 5), ("a moon", 5), ("a sun", 6)], strict=True):
        [expected] = model.generate(prompt, seed=seed, steps=2, guidance_scale=3.0).images
        assert np.array_equal(picture, np.array(expected))
    assert not np.array_equal(drawn[0], drawn[2])
    assert subject.name == model.name and subject.autoencoder is model.parts.autoencoder
    assert subject.settings["steps"] == "2" and subject.settings["guidance"] == "3"


def test_other_settings_and_other_weights_have_other_keys(model: Model, tmp_path: Path) -> None:
    other = load(save_small(tmp_path, "pocket", seed=1), "cpu", "float32")
    keys = {
        model_subject(model, steps=2).key,
        model_subject(model, steps=3).key,
        model_subject(model, steps=2, guidance_scale=1.5).key,
        model_subject(other, steps=2).key,
    }
    assert len(keys) == 4 and model_subject(model, steps=2).key in keys


def test_wrong_settings_are_refused_before_anything_is_drawn(model: Model) -> None:
    with pytest.raises(InputError, match="steps"):
        model_subject(model, steps=0)
    with pytest.raises(InputError, match="unknown option 'guidence_scale'"):
        model_subject(model, guidence_scale=3.0)
