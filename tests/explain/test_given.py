"""Pictures that begin with more than words: what the explanation says of a start, a mask, channels and adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rein.explain.file import read_trace, write_trace
from rein.explain.given import layer_changes
from rein.explain.page import build_page
from rein.explain.part_given import kind_of, region_of
from rein.explain.pictures import png
from rein.explain.trace import Explanation, explain
from rein.explain.whatif import requests, usual_strips
from rein.formats.adapters_names import kohya_name, targets_of
from rein.formats.tensors import write_tensors
from rein.image_files import read_image
from rein.nn.adapters import weight_change
from rein.pipeline.encode import encode_picture
from rein.pipeline.model import Model
from tests.explain.conftest import Channels, Loader
from tests.explain.outline import Outline
from tests.formats.random_adapters import KINDS, kohya_tensors, random_changes

PROMPT = "a red apple, flat style"
DRAWN: dict[str, Any] = {"seed": 7, "steps": 10, "guidance_scale": 3.0, "width": 32, "height": 32}


def explained(model: Model, **options: Any) -> Explanation:
    """Finished, and the picture that `generate` draws."""
    explanation = explain(PROMPT, model, **DRAWN | options).finish()
    assert png(explanation.result.images[0]) == png(model.generate(PROMPT, **DRAWN | options).images[0])
    return explanation


def guided(explanation: Explanation) -> None:
    """What the two answers make is what the sampler got."""
    for record in explanation.kept:
        assert record.unwanted is not None
        expected = record.unwanted + 3 * (record.wanted - record.unwanted)
        torch.testing.assert_close(record.denoised, expected, rtol=1e-4, atol=1e-4)


@pytest.fixture
def adapter(pocket: Model, tmp_path: Path) -> Path:
    """A random LoRA for every third layer."""
    changes = random_changes(targets_of(pocket.spec), KINDS["lora"], every=3)
    path = tmp_path / "style.safetensors"
    write_tensors(path, kohya_tensors(changes, lambda place: kohya_name(place, len(pocket.spec.towers))))
    return path


def test_words_alone_are_given_nothing_else(apple: Explanation) -> None:
    assert apple.beginning.plain and apple.adapters == () and apple.left_out == []
    assert "given" not in Outline(build_page(apple).render()).ids


def test_a_picture_to_start_from(pocket: Model, picture: Path) -> None:
    explanation = explained(pocket, init_image=str(picture), strength=0.6)
    begun = explanation.beginning
    expected = encode_picture(pocket.parts, read_image(str(picture)))[0]
    assert begun.latents is not None and begun.under_noise and begun.mask is None and begun.extra is None
    torch.testing.assert_close(begun.latents, expected)
    assert len(begun.left_out) == 4 and len(explanation.kept) == 6
    assert begun.left_out[-1] > float(explanation.sigmas[0]) > float(explanation.sigmas[1])
    guided(explanation)
    page = Outline(build_page(explanation).render())
    assert page.ids[3:5] == ["given", "noise"]
    assert "Strength 0.6: of 10 steps the first 4 are left out." in page.said
    assert "its numbers are laid over the latents" in page.said
    assert f"--init {picture} --strength 0.6" in page.said


def test_under_a_mask_both_answers_keep_what_is_known(pocket: Model, picture: Path, mask: Path) -> None:
    explanation = explained(pocket, init_image=str(picture), mask=str(mask), strength=0.5, mask_blur=0.0)
    begun = explanation.beginning
    assert begun.mask is not None and begun.latents is not None and begun.part_of_source
    assert begun.mask[:, : begun.mask.shape[1] // 2].min() == 1 and begun.mask[:, begun.mask.shape[1] // 2 :].max() == 0
    guided(explanation)
    for record in explanation.kept:
        kept = (begun.mask == 0).expand_as(record.denoised)
        for answer in (record.denoised, record.wanted, record.unwanted):
            assert answer is not None
            torch.testing.assert_close(answer[kept], begun.latents[kept])
        assert record.added[kept].abs().max() == 0
    assert "leaves 50 % of the places to draw" in Outline(build_page(explanation).render()).said


@pytest.mark.parametrize(
    ("extra", "options", "kind"),
    [
        (5, ("init_image", "mask"), "mask and masked picture"),
        (1, ("depth_image",), "depth map"),
        (4, ("init_image",), "picture to edit"),
    ],
)
def test_further_channels(
    with_channels: Channels, picture: Path, mask: Path, extra: int, options: tuple[str, ...], kind: str
) -> None:
    files = {"init_image": str(picture), "mask": str(mask), "depth_image": str(picture)}
    given: dict[str, Any] = {name: files[name] for name in options}
    if "init_image" in options:
        given["strength"] = 1.0
    explanation = explained(with_channels(extra), **given)
    begun = explanation.beginning
    assert begun.extra is not None and begun.extra.shape[0] == extra and begun.extra_kind == kind
    assert not begun.under_noise
    guided(explanation)
    said = Outline(build_page(explanation).render()).said
    assert f"{extra} more channel" in said and kind in said


def test_an_editing_model_is_asked_for_three_answers(with_channels: Channels, picture: Path) -> None:
    """With the picture's own guidance at 1 the third does not count, and guidance 1 and 0 give the others."""
    model, options = with_channels(4), {"init_image": str(picture), "image_guidance_scale": 1.5}
    first = next(iter(explain(PROMPT, model, **DRAWN | options)))
    alone = {
        scale: next(model.steps(PROMPT, **DRAWN | options | {"guidance_scale": scale})).denoised[0]
        for scale in (1.0, 0.0)
    }
    assert first.unwanted is not None
    torch.testing.assert_close(first.wanted, alone[1.0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(first.unwanted, alone[0.0], rtol=1e-4, atol=1e-4)


def test_where_adapters_act_most(pocket: Model, adapter: Path) -> None:
    explanation = explained(pocket, loras=[(str(adapter), 0.5)])
    [(loaded, weight, text_weight)] = explanation._job.chosen.loras
    assert (weight, text_weight) == (0.5, 0.5)
    assert {(change.part, change.layer) for change in explanation.adapters} == set(loaded.changes)
    parts = {"unet": pocket.parts.unet, "tower": pocket.parts.towers[0]}
    with pocket.parts.merger.using(()):
        for change in explanation.adapters:
            original = parts[change.part].get_submodule(change.layer).weight
            assert isinstance(original, torch.Tensor)
            delta = weight_change(loaded.changes[change.part, change.layer], original)
            assert delta is not None
            assert change.size == pytest.approx(0.5 * float(delta.norm()), rel=1e-4)
            assert change.share == pytest.approx(change.size / float(original.norm()), rel=1e-5)
    shares = [change.share for change in explanation.adapters]
    assert shares == sorted(shares, reverse=True)
    assert {region_of(change).partition(",")[0] for change in explanation.adapters} == {"U-Net", "text tower"}
    assert "cross-attention" in {kind_of(change) for change in explanation.adapters}
    said = Outline(build_page(explanation).render()).said
    assert f"change {len(shares)} layers" in said and f"--lora {adapter}:0.5" in said
    assert layer_changes(pocket.parts, ()) == ()


def test_what_was_given_is_in_the_trace(
    pocket: Model, adapter: Path, picture: Path, mask: Path, tmp_path: Path
) -> None:
    given = {"init_image": str(picture), "mask": str(mask), "strength": 0.5, "loras": [str(adapter)]}
    explanation = explained(pocket, **given)
    write_trace(explanation, tmp_path / "given")
    trace = read_trace(tmp_path / "given")
    begun = explanation.beginning
    assert begun.latents is not None and begun.mask is not None
    assert torch.equal(trace.tensors["given.start"], begun.latents)
    assert torch.equal(trace.tensors["given.mask"], begun.mask)
    assert trace.facts["given"]["left_out"] == list(begun.left_out)
    assert len(trace.facts["given"]["adapters"]) == len(explanation.adapters)


def test_strips_of_what_was_given(pocket: Model, adapter: Path, picture: Path) -> None:
    explanation = explain(PROMPT, pocket, **DRAWN, init_image=str(picture), loras=[(str(adapter), 1.0, 0.5)])
    request = explanation.request
    assert usual_strips(request) == ("strength", "adapter", "word")
    assert [other.strength for _, other in requests("strength", request)] == [0.3, 0.5, 0.9]
    without, half = (other.loras for _, other in requests("adapter", request))
    assert without == ()
    assert [(lora.weight, lora.text_weight) for lora in half] == [(0.5, 0.25)]


@pytest.mark.parametrize("sampler", ["ddim_cfgpp", "dpm_2"])
def test_samplers_that_ask_otherwise(small_model: Loader, sampler: str) -> None:
    """One asks for both answers; one twice a step."""
    explanation = explained(small_model("sd1"), sampler=sampler, steps=3)
    assert all(record.unwanted is not None for record in explanation.kept)
