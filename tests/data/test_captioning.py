"""Captions by a model: a tiny BLIP with random weights, made here, beside transformers' own way of asking it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoProcessor,
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipProcessor,
    CLIPConfig,
    CLIPModel,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from rein.data.captioning import Writing, open_captioner, write_captions
from rein.errors import DamagedFileError, InputError
from tests.data.gathered import painted, save_collection

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]", "a", "cat", "dog", "red", "blue", "sky", "tree", "of", "photo"]


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blip")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    tokenizer = BertTokenizer(str(folder / "vocab.txt"), bos_token="[DEC]")
    text = {
        "vocab_size": len(WORDS), "hidden_size": 16, "encoder_hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 16, "max_position_embeddings": 64,
        "bos_token_id": 4, "pad_token_id": 0, "eos_token_id": 3, "sep_token_id": 3,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 32, "patch_size": 8, "projection_dim": 16,
    }  # fmt: skip
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision, projection_dim=16))
    with torch.no_grad():  # livelier weights, so that pictures decide the words
        for name, parameter in model.named_parameters():
            if "norm" not in name.lower():
                parameter.normal_(0, 0.16 if parameter.ndim > 1 else 0.02)
    model.save_pretrained(folder)
    BlipProcessor(BlipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def test_the_words_are_those_of_the_model(blip: Path) -> None:
    images = [painted(40, 30, seed) for seed in range(6)]
    found = open_captioner(blip, Writing(tokens=6, beams=1))(images)
    model = BlipForConditionalGeneration.from_pretrained(blip).eval()
    processor = AutoProcessor.from_pretrained(blip)
    expected = []
    for image in images:
        with torch.inference_mode():
            ids = model.generate(**processor(images=image, return_tensors="pt"), max_new_tokens=6, num_beams=1)
        expected.append(processor.decode(ids[0], skip_special_tokens=True).strip())
    assert found == expected
    assert len(set(found)) > 1
    assert found == open_captioner(blip, Writing(tokens=6, beams=1))(images)


def test_the_caption_goes_on_from_given_words(blip: Path) -> None:
    found = open_captioner(blip, Writing(beginning="a photo of", tokens=4, beams=2))([painted(40, 30, 1)])
    assert found[0].startswith("a photo of")


def test_captions_are_written_where_there_are_none(blip: Path, tmp_path: Path) -> None:
    folder = save_collection(tmp_path, [(40, 40)] * 4)
    (folder / "1.txt").unlink()
    (folder / "2.txt").unlink()
    (folder / "3.png").write_bytes(b"no picture")
    (folder / "3.txt").unlink()
    writing = Writing(trigger="sks", tokens=5, beams=1)
    captioner = open_captioner(blip, writing)
    found = {written.name: written for written in write_captions(folder, captioner, writing)}
    assert [written.file is not None for written in (found["0.png"], found["1.png"], found["2.png"])] == [
        False,
        True,
        True,
    ]
    assert found["0.png"].reason == "it has a caption"
    assert "not a PNG" in (found["3.png"].reason or "")
    assert (folder / "0.txt").read_text() == "picture 0\nthe same again"
    assert (folder / "1.txt").read_text() == found["1.png"].caption + "\n"
    assert found["1.png"].caption.startswith("sks")
    again = list(write_captions(folder, captioner, writing))
    assert [written.name for written in again if written.file] == []
    replaced = list(write_captions(folder, captioner, Writing(tokens=5, beams=1, replaced=True)))
    assert [written.name for written in replaced if written.file] == ["0.png", "1.png", "2.png"]


def test_other_folders_are_refused(blip: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be a folder with"):
        open_captioner(tmp_path, Writing())
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DamagedFileError, match="cannot be read"):
        open_captioner(tmp_path, Writing())
    CLIPModel(
        CLIPConfig(
            text_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9},
            vision_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "image_size": 32},
        )
    ).save_pretrained(tmp_path / "clip")
    with pytest.raises(DamagedFileError, match="of the kind 'clip': known are blip"):
        open_captioner(tmp_path / "clip", Writing())
    with pytest.raises(InputError, match="there is no folder"):
        list(write_captions(tmp_path / "none", lambda images: [], Writing()))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="there are no pictures"):
        list(write_captions(tmp_path / "empty", lambda images: [], Writing()))
    with pytest.raises(InputError, match="beams is 0"):
        Writing(beams=0)
