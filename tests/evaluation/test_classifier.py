import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rein.data.colours import COLOUR_NAMES
from rein.data.icons import IconArt
from rein.errors import DamagedFileError, InputError
from rein.evaluation.classifier import (
    Classifier,
    ClassifierConfig,
    judge,
    load_classifier,
    save_classifier,
    shrunk,
    to_pixels,
)
from rein.evaluation.learning import drawn_lessons
from rein.formats.tensors import read_header, read_tensors, write_tensors

CONFIG = ClassifierConfig(("sun", "moon"), ("flat",), ("red", "blue"), (8, 16), (1, 2))


def test_shapes_and_what_is_counted_in_each_head() -> None:
    verdict = Classifier(CONFIG)(torch.zeros(3, 3, 64, 64))
    assert verdict.concepts.shape == (3, 3)  # none is the third
    assert verdict.styles.shape == (3, 1)
    assert verdict.colours.shape == (3, 3)  # as it is, and two


def test_stored_and_read_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = Classifier(CONFIG)
    classifier(torch.randn(8, 3, 64, 64))  # moves the running statistics off their start
    save_classifier(classifier, tmp_path / "judge.safetensors")
    read = load_classifier(tmp_path / "judge.safetensors")
    assert read.config == CONFIG and not read.training
    for name, value in classifier.state_dict().items():
        assert torch.equal(read.state_dict()[name].float(), value.half().float()), name


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "judge.safetensors"
    write_tensors(path, {"weight": torch.zeros(2)}, {"format": "pt"})
    with pytest.raises(DamagedFileError, match="not a classifier of Rein"):
        load_classifier(path)
    save_classifier(Classifier(CONFIG), path)
    metadata, tensors = read_header(path).metadata, read_tensors(path)
    for change in ({"widths": [8, 24]}, {"depth": [1]}):
        described = json.loads(metadata["config"]) | change
        write_tensors(path, {k: v.clone() for k, v in tensors.items()}, metadata | {"config": json.dumps(described)})
        with pytest.raises(DamagedFileError, match="do not fit its description"):
            load_classifier(path)
    with pytest.raises(InputError, match="there is no file"):
        load_classifier(tmp_path / "other.safetensors")


def test_a_verdict_does_not_depend_on_the_batch(classifier: Classifier, art: IconArt) -> None:
    pictures = drawn_lessons(art, 9, 5).views.permute(0, 2, 3, 1).numpy()
    whole, parts = judge(classifier, pictures), judge(classifier, pictures, batch_size=2)
    torch.testing.assert_close(whole.concepts, parts.concepts, rtol=1e-4, atol=1e-4)


def test_judging_leaves_the_mode_and_the_statistics(classifier: Classifier) -> None:
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    classifier.train()
    judge(classifier, np.zeros((2, 64, 64, 3), dtype=np.uint8))
    assert classifier.training
    classifier.eval()
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())


def test_pixels_and_views() -> None:
    pictures = np.zeros((1, 128, 128, 3), dtype=np.uint8)
    pictures[0, 0, 1] = (255, 0, 255)
    pixels = to_pixels(pictures)
    assert pixels.shape == (1, 3, 128, 128) and pixels[0, :, 0, 1].tolist() == [1.0, -1.0, 1.0]
    assert shrunk(pixels)[0, :, 0, 0].tolist() == [-0.5, -1.0, -0.5]


def test_the_shipped_judge_knows_the_first_concepts_of_the_list() -> None:
    from rein.data.concepts import read_concepts
    from rein.data.options import ArtOptions

    config = load_classifier().config
    assert config.concepts == tuple(concept.icon for concept in read_concepts(count=len(config.concepts)))
    assert len(config.concepts) >= 300
    assert config.styles == ArtOptions().styles and config.colours == COLOUR_NAMES
