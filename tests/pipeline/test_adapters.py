"""Adapters and learned words in whole pictures: asked for by a request or its prompt, and gone with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rein.errors import InputError
from rein.formats.adapters import read_adapter
from rein.formats.adapters_names import kohya_name, parts_of, targets_of
from rein.formats.tensors import write_tensors
from rein.nn.adapters import Change, Place
from rein.pipeline.model import Model, load
from rein.pipeline.request import Request
from tests.formats.random_adapters import KINDS, kohya_tensors, random_changes
from tests.nn.injection import injected
from tests.nn.peers import relative_error
from tests.pipeline.small import SPECS, WIDTH

Loader = Callable[[str], Model]

SIZE: dict[str, Any] = {"width": 32, "height": 32, "steps": 3, "seed": 5}
PROMPT = "a red apple, flat style"


def _write(folder: Path, model: Model, kind: str = "lora", seed: int = 0, name: str = "style", every: int = 2) -> Path:
    """A random adapter for a model as a file, in kohya's names."""
    targets = targets_of(model.spec)
    changes = random_changes(targets, KINDS[kind], seed, every)
    path = folder / f"{name}.safetensors"
    write_tensors(path, kohya_tensors(changes, lambda place: kohya_name(place, len(model.spec.towers))))
    return path


def _latents(model: Model, prompt: str = PROMPT, **options: Any) -> Tensor:
    return list(model.steps(prompt, **SIZE, **options))[-1].latents.clone()


def _weights(model: Model) -> dict[str, bytes]:
    parts = parts_of(model.parts.unet, model.parts.towers)
    return {
        f"{part}.{name}": tensor.flatten().contiguous().numpy().tobytes()
        for part, network in parts.items()
        for name, tensor in network.state_dict().items()
    }


def _split(changes: Mapping[Place, Change], text: bool) -> dict[Place, Change]:
    return {place: change for place, change in changes.items() if (place[0] != "unet") == text}


@pytest.mark.parametrize(("family", "kind"), [*(("pocket", kind) for kind in KINDS), ("sdxl", "lora")])
def test_a_picture_with_an_adapter(family: str, kind: str, small_model: Loader, tmp_path: Path) -> None:
    """Merged into the weights it gives what it gives beside them; afterwards nothing of it is left."""
    model = small_model(family)
    path = _write(tmp_path, model, kind)
    plain, before = _latents(model), _weights(model)
    merged = _latents(model, loras=[(path, 0.5, 0.25)])
    changes = read_adapter(path, targets_of(model.spec)).changes
    parts = parts_of(model.parts.unet, model.parts.towers)
    model.parts.merger.restore()
    assert _weights(model) == before
    with injected(parts, [(_split(changes, False), 0.5), (_split(changes, True), 0.25)]):
        expected = _latents(model)
    assert relative_error(merged, expected) < 1e-4
    assert relative_error(plain, expected) > 1e-2
    _latents(model, loras=[(path, 0.5, 0.25)])
    assert torch.equal(_latents(model), plain), "another request is not touched by it"
    assert _weights(model) == before


def test_weights_for_unet_and_text_act_apart(small_model: Loader, tmp_path: Path) -> None:
    model = small_model("sd1")
    path = str(_write(tmp_path, model))
    plain = _latents(model)
    assert torch.equal(_latents(model, loras=[(path, 0.0)]), plain)
    assert torch.equal(_latents(model, loras=[(path, 0.7)]), _latents(model, loras=[(path, 0.7, 0.7)]))
    unet, text = _latents(model, loras=[(path, 0.7, 0.0)]), _latents(model, loras=[(path, 0.0, 0.7)])
    assert not torch.equal(unet, plain) and not torch.equal(text, plain) and not torch.equal(unet, text)


def test_a_tag_in_the_prompt_is_the_option(small_model: Loader, tmp_path: Path) -> None:
    model = small_model("sd1")
    path, folder = _write(tmp_path, model, name="my style"), str(tmp_path)
    tagged = f"{PROMPT} <lora:my style:0.5:0.8>"  # the text's weight is first
    assert torch.equal(_latents(model, tagged, lora_folder=folder), _latents(model, loras=[(path, 0.8, 0.5)]))
    for prompt, message in {
        "<lora:../secret:1>": "'../secret' is no name",
        "<lora:/etc/passwd:1>": "is no name",
        "<lora:my stile:1>": "unknown lora 'my stile'.*did you mean 'my style'",
        "<lora:my style:99>": "it must be a number from -10 to 10",
    }.items():
        with pytest.raises(InputError, match=message):
            model.generate(prompt, lora_folder=folder, **SIZE)
    with pytest.raises(InputError, match="no folder to find it in: give --lora-folder"):
        model.generate(tagged, **SIZE)


def test_pictures_in_turns_keep_their_own_adapters(small_model: Loader, tmp_path: Path) -> None:
    model = small_model("pocket")
    sets: list[dict[str, Any]] = [
        {},
        {"loras": [_write(tmp_path, model, name="one")]},
        {"loras": [(_write(tmp_path, model, "loha", 1, "two"), -0.5), (tmp_path / "one.safetensors", 0.3)]},
    ]
    alone = [_latents(model, **options) for options in sets]
    runs = [model.steps(PROMPT, **SIZE, **options) for options in sets]
    last: list[Any] = [None] * len(runs)
    for _ in range(SIZE["steps"]):
        last = [next(run).latents.clone() for run in runs]
    assert all(torch.equal(one, other) for one, other in zip(alone, last, strict=True))
    assert not torch.equal(alone[0], alone[1]) and not torch.equal(alone[1], alone[2])


def test_drawn_adapters_are_those_of_each_picture(small_model: Loader, tmp_path: Path) -> None:
    model = small_model("pocket")
    for number, name in enumerate(("one", "two")):
        _write(tmp_path, model, seed=number, name=name)
    prompt = "an apple {<lora:one:1>|<lora:two:1>}"
    together = model.generate(prompt, lora_folder=str(tmp_path), **{**SIZE, "count": 4})
    names = [[entry["name"] for entry in together.manifest(index)["loras"]] for index in range(4)]
    assert {name for entry in names for name in entry} == {"one", "two"}
    for index in range(4):
        again = model.generate(together.single(index))
        assert again.images[0].tobytes() == together.images[index].tobytes()


def test_what_was_used_is_written_into_the_picture(small_model: Loader, tmp_path: Path) -> None:
    model = small_model("sd1")
    path = _write(tmp_path, model)
    word = tmp_path / "zorb.safetensors"
    write_tensors(word, {"emb_params": torch.ones(1, WIDTH)})
    result = model.generate(f"{PROMPT} zorb", loras=[(path, 0.75)], embeddings=[word], **SIZE)
    adapter = read_adapter(path, targets_of(model.spec))
    manifest = json.loads(result.texts()["rein"])
    assert manifest["loras"] == [
        {
            "name": "style",
            "sha256": adapter.sha256,
            "short_hash": adapter.short_hash,
            "weight": 0.75,
            "text_weight": 0.75,
            "unmatched": 0,
        }
    ]
    [entry] = manifest["embeddings"]
    text = result.infotext()
    assert text.startswith(f"{PROMPT} zorb <lora:style:0.75>\n")
    assert f'Lora hashes: "style: {adapter.short_hash}"' in text
    assert f'TI hashes: "zorb: {entry["sha256"][:12]}"' in text
    again = model.generate(Request.model_validate(manifest["request"]))
    assert again.images[0].tobytes() == result.images[0].tobytes()
    assert "loras" not in model.generate(PROMPT, **SIZE).manifest()


def test_a_request_with_adapters_goes_to_json_and_back() -> None:
    request = Request(prompt="x", loras=["a.pt", ("b.pt", 0.5), ("c.pt", -1.0, 0.0)], embeddings=["d.pt"])  # type: ignore[arg-type]
    assert Request.from_json(request.to_json()) == request
    assert [(choice.path, choice.weight, choice.text_weight) for choice in request.loras] == [
        ("a.pt", 1.0, None),
        ("b.pt", 0.5, None),
        ("c.pt", -1.0, 0.0),
    ]
    for wrong in (
        [("a", 11.0)],
        [("a", float("nan"))],
        [("a", 1.0, 1.0, 1.0)],
        ["a"] * 65,
        [""],
        ["a\0"],
        "a",
        [{"x": 1}],
    ):
        with pytest.raises(InputError, match="loras is .*: it must be at most 64 files"):
            Request(prompt="x", loras=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="embeddings is"):
        Request(prompt="x", embeddings=[3])  # type: ignore[arg-type]


def _word(folder: Path, model: Model, like: str, name: str = "zorb") -> Path:
    """A learned word that is a word of the vocabulary under another name."""
    vectors = []
    for tower, tokenizer in zip(model.parts.towers, model.parts.tokenizers, strict=True):
        table = tower.text_model.embeddings.token_embedding
        assert isinstance(table, nn.Embedding)
        vectors.append(table.weight[tokenizer.encode(like)].clone())
    names = ["emb_params"] if len(vectors) == 1 else ["clip_l", "clip_g"]
    path = folder / f"{name}.safetensors"
    write_tensors(path, dict(zip(names, vectors, strict=True)))
    return path


@pytest.mark.parametrize("family", ["pocket", "sd1", "sdxl"])
def test_a_learned_word_stands_for_its_vectors(family: str, small_model: Loader, tmp_path: Path) -> None:
    """With the vectors of known words it gives the very same picture as those words."""
    model = small_model(family)
    path = _word(tmp_path, model, "red apple")
    expected = _latents(model, "a red apple on a table")
    assert torch.equal(_latents(model, "a zorb on a table", embeddings=[path]), expected)
    assert torch.equal(_latents(model, "a Zorb on a table", embedding_folder=str(tmp_path)), expected)
    assert not torch.equal(_latents(model, "a zorb on a table"), expected)
    negative = {"negative_prompt": "zorb", "embedding_folder": str(tmp_path)}
    assert torch.equal(_latents(model, **negative), _latents(model, negative_prompt="red apple"))


def test_words_that_no_prompt_has_are_told_or_left_alone(small_model: Loader, tmp_path: Path) -> None:
    model = small_model("sd1")
    path = _word(tmp_path, model, "red apple")
    result = model.generate(PROMPT, embeddings=[path], **SIZE)
    assert result.notes == {5: ("embedding 'zorb' is not used: its name is in no prompt",)}
    assert "embeddings" not in result.manifest() and "TI hashes" not in result.infotext()
    (tmp_path / "broken.pt").write_bytes(b"broken")
    assert model.generate("zorbs", embedding_folder=str(tmp_path), **SIZE).notes == {}
    with pytest.raises(InputError, match="have the same name"):
        model.generate(PROMPT, embeddings=[path, tmp_path / "other" / "Zorb.pt"], **SIZE)


def test_files_that_change_are_read_again(small_model: Loader, tmp_path: Path) -> None:
    model = small_model("pocket")
    path = _write(tmp_path, model, seed=0)
    first = _latents(model, loras=[path])
    _write(tmp_path, model, seed=1)
    second = _latents(model, loras=[path])
    _write(tmp_path, model, seed=0)
    assert not torch.equal(first, second) and torch.equal(_latents(model, loras=[path]), first)


def test_a_file_for_another_family_is_refused(small_model: Loader, tmp_path: Path) -> None:
    path = _write(tmp_path, small_model("sdxl"), every=1)
    for family in ("sd1", "pocket"):
        with pytest.raises(InputError, match=rf"was made for .*; 'small-{SPECS[family].name[6:]}' is"):
            small_model(family).generate(PROMPT, loras=[path], **SIZE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_embedded_model_takes_adapters(kind: str, tmp_path: Path) -> None:
    model = _embedded()
    path = _write(tmp_path, model, kind, every=9)
    options: dict[str, Any] = {**SIZE, "steps": 1}
    plain = model.generate(PROMPT, **options).images[0].tobytes()
    adapted = model.generate(PROMPT, loras=[(path, 0.1)], **options).images[0].tobytes()
    assert adapted != plain
    assert model.generate(PROMPT, **options).images[0].tobytes() == plain


_LOADED: list[Model] = []


def _embedded() -> Model:
    if not _LOADED:
        _LOADED.append(load("pocket", "cpu"))
    return _LOADED[0]
