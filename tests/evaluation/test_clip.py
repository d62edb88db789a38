"""CLIP read from files as transformers and OpenCLIP write them, against transformers' own answers."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

from rein.errors import DamagedFileError, InputError
from rein.evaluation.clip import load_clip
from rein.evaluation.features import features_of
from rein.evaluation.networks import clip_features, load_features
from rein.formats.tensors import write_tensors
from rein.text.tokenizer import clip_tokenizer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchmetrics.multimodal import CLIPScore

WORDS = ["a red apple", "two dogs in the snow, watercolour", ""]


def tiny(activation: str, seed: int = 0) -> CLIPModel:
    torch.manual_seed(seed)
    shape = {"intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_act": activation}
    text = {"hidden_size": 48, "max_position_embeddings": 77, "eos_token_id": 49407, "vocab_size": 49408} | shape
    vision = {"hidden_size": 64, "image_size": 56, "patch_size": 14} | shape
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)).eval()


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    sizes = [(80, 64), (56, 56), (57, 90)]
    coarse = [random.integers(0, 256, (6, 6, 3), dtype=np.uint8) for _ in sizes]
    return [Image.fromarray(p).resize(size, Image.Resampling.BICUBIC) for p, size in zip(coarse, sizes, strict=True)]


def published(model: CLIPModel) -> dict[str, Tensor]:
    """Its tensors under the names of the published files."""
    state = {}
    for name, value in model.state_dict().items():
        if not name.endswith("position_ids"):
            state[name] = value.contiguous()
    return state


def openclip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors as OpenCLIP keeps them."""
    plain = {
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "vision_model.pre_layrnorm": "visual.ln_pre",
        "vision_model.post_layernorm": "visual.ln_post",
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.final_layer_norm": "ln_final",
        "vision_model.encoder.layers": "visual.transformer.resblocks",
        "text_model.encoder.layers": "transformer.resblocks",
        "layer_norm": "ln_",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "self_attn.": "attn.",
        "logit_scale": "logit_scale",
    }
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        for ours, theirs in plain.items():
            name = name.replace(ours, theirs)
        found[name] = value
    found["visual.proj"] = found.pop("visual_projection.weight").T.contiguous()
    found["text_projection"] = found.pop("text_projection.weight").T.contiguous()
    for stem in {name.split(".q_proj")[0] for name in found if ".q_proj" in name}:
        for kind in ("weight", "bias"):
            parts = [found.pop(f"{stem}.{projection}_proj.{kind}") for projection in "qkv"]
            found[f"{stem}.in_proj_{kind}"] = torch.cat(parts)
    return found


@torch.no_grad()
def peer_vectors(model: CLIPModel, pixels: Tensor, words: list[str]) -> tuple[Tensor, Tensor]:
    """Normalised vectors of pictures that are prepared, and of texts."""
    ids = clip_tokenizer().batch(words, 77)
    seen = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
    read = model.text_projection(model.text_model(input_ids=ids).pooler_output)
    return seen / seen.norm(dim=1, keepdim=True), read / read.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_a_transformers_folder_gives_its_vectors(activation: str, tmp_path: Path, pictures: list[Image.Image]) -> None:
    model = tiny(activation)
    write_tensors(tmp_path / "model.safetensors", published(model), {})
    (tmp_path / "config.json").write_text(json.dumps(model.config.to_dict(), default=str))
    clip = load_clip(tmp_path)
    pixels = torch.stack([clip.prepared(picture) for picture in pictures])
    seen, read = peer_vectors(model, pixels, WORDS)
    torch.testing.assert_close(clip.pictures(pictures), seen, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(clip.texts(WORDS), read, rtol=1e-4, atol=1e-5)
    wanted = 100 * (seen * read).sum(dim=1).clamp(min=0)
    torch.testing.assert_close(clip.scores(pictures, WORDS), wanted, rtol=1e-3, atol=1e-2)
    assert ("quick" in clip.name) == (activation == "quick_gelu")
    assert clip.width == 32 and len(clip.sha256) == 64
    found = features_of(clip_features(clip), pictures)
    assert found.vectors.shape == (3, 32) and found.chances is None


def test_an_openclip_file_gives_the_same_vectors(tmp_path: Path, pictures: list[Image.Image]) -> None:
    model = tiny("gelu")
    # Without a description heads follow from the width: 64 numbers each, one head here.
    for tower in (model.vision_model, model.text_model):
        for layer in tower.encoder.layers:
            layer.self_attn.num_heads, layer.self_attn.head_dim = 1, layer.self_attn.embed_dim
            layer.self_attn.scale = layer.self_attn.embed_dim**-0.5
    path = tmp_path / "open_clip.safetensors"
    write_tensors(path, openclip(published(model)), {})
    clip = load_clip(path)
    pixels = torch.stack([clip.prepared(picture) for picture in pictures])
    seen, read = peer_vectors(model, pixels, WORDS)
    torch.testing.assert_close(clip.pictures(pictures), seen, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(clip.texts(WORDS), read, rtol=1e-4, atol=1e-5)
    assert load_features(str(path)).width == 32


class Peer(torch.nn.Module):
    """transformers' model as torchmetrics asks it: for plain vectors."""

    def __init__(self, model: CLIPModel) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def get_image_features(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.model.get_image_features(pixel_values=pixels).pooler_output
        return found

    def get_text_features(self, ids: Tensor, mask: Tensor) -> Tensor:
        found: Tensor = self.model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
        return found


def peer_processor(text: list[str] | None = None, images: list[Tensor] | None = None, **_: object) -> dict[str, Tensor]:
    """transformers' own preparation of pictures; the words' tokens without the padding, which the mask takes out."""
    if images is not None:
        sizes = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
        found = CLIPImageProcessorPil(**sizes)(images=images, return_tensors="pt")
        return {"pixel_values": found["pixel_values"]}
    ids = clip_tokenizer().batch(text or [], 77)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@torch.no_grad()
def test_the_clip_score_equals_torchmetrics(tmp_path: Path, pictures: list[Image.Image]) -> None:
    model = tiny("quick_gelu", seed=3)
    write_tensors(tmp_path / "model.safetensors", published(model), {})
    (tmp_path / "config.json").write_text(json.dumps(model.config.to_dict(), default=str))
    found = load_clip(tmp_path).scores(pictures, WORDS)
    wanted = []
    for picture, words in zip(pictures, WORDS, strict=True):  # one by one: the peer's means may hide a difference
        metric = CLIPScore(model_name_or_path=lambda: (Peer(model), peer_processor))
        metric.update(torch.from_numpy(np.array(picture)).permute(2, 0, 1), words)
        wanted.append(float(metric.compute()))
    assert max(wanted) > 1, "a score of 0 would be equal too easily"
    assert found.tolist() == pytest.approx(wanted, rel=1e-3, abs=1e-4)


def test_a_picture_is_prepared_as_the_published_models_were(tmp_path: Path) -> None:
    write_tensors(tmp_path / "clip.safetensors", published(tiny("gelu")), {})
    clip = load_clip(tmp_path / "clip.safetensors")
    levels = np.zeros((56, 112, 3), dtype=np.uint8)
    levels[:, 28:84] = [255, 128, 0]  # the middle square
    found = clip.prepared(Image.fromarray(levels))
    assert found.shape == (3, 56, 56)
    wanted = [(1 - 0.48145466) / 0.26862954, (128 / 255 - 0.4578275) / 0.26130258, (0 - 0.40821073) / 0.27577711]
    torch.testing.assert_close(found.mean(dim=(1, 2)), torch.tensor(wanted), rtol=1e-4, atol=1e-4)
    assert float(found.std(dim=(1, 2)).max()) < 1e-4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # there are such files, and no other way to write one
def test_a_program_is_refused_and_the_line_says_what_to_take(tmp_path: Path) -> None:
    """OpenAI's own files of CLIP are programs: TorchScript."""
    traced = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    torch.jit.save(traced, str(tmp_path / "ViT-B-32.pt"))
    with pytest.raises(DamagedFileError, match=r"TorchScript program.*take the same model's weights"):
        load_clip(tmp_path / "ViT-B-32.pt")


def test_files_that_are_no_clip_are_refused(tmp_path: Path) -> None:
    state = published(tiny("gelu"))
    alone = {name: value for name, value in state.items() if name.startswith("text_model")}
    write_tensors(tmp_path / "text.safetensors", alone, {})
    with pytest.raises(InputError, match="holds no CLIP with both towers"):
        load_clip(tmp_path / "text.safetensors")
    with pytest.raises(InputError, match="there is no CLIP model in"):
        load_clip(tmp_path)
    del state["text_model.final_layer_norm.weight"]
    write_tensors(tmp_path / "cut.safetensors", state, {})
    with pytest.raises(DamagedFileError, match="it lacks 1 tensor: 'text_model.final_layer_norm.weight'"):
        load_clip(tmp_path / "cut.safetensors")
    state = published(tiny("gelu"))
    write_tensors(tmp_path / "model.safetensors", state, {})
    (tmp_path / "config.json").write_text('{"vision_config": {"hidden_act": "relu"}}')
    with pytest.raises(InputError, match="hidden_act 'relu'"):
        load_clip(tmp_path)
