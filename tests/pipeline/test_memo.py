"""What pictures have in common is computed once, and is what would be computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from rein.pipeline.adapters import Chosen
from rein.pipeline.axes import read_axis
from rein.pipeline.interpolate import interpolated
from rein.pipeline.memo import MOST_PICTURES, Memo
from rein.pipeline.model import Model
from rein.pipeline.request import Request
from rein.pipeline.sheets import draw_sheet, plan_sheet
from tests.pipeline.small import SPECS

RED = Image.new("RGB", (32, 32), (200, 40, 30))


@contextmanager
def calls(module: nn.Module) -> Iterator[list[object]]:
    """What a network is asked within the block, one entry a call."""
    seen: list[object] = []
    handle = module.register_forward_hook(lambda *_: seen.append(None))
    try:
        yield seen
    finally:
        handle.remove()


def sheet(model: Model, base: Request, *axes: str) -> dict[tuple[str, ...], bytes]:
    plan = plan_sheet(base, *(read_axis(axis) for axis in axes))
    drawn = [cell for step in draw_sheet(model, plan) for cell in step.finished]
    assert all(cell.result is not None for cell in drawn)
    return {cell.cell.labels: cell.result.images[0].tobytes() for cell in drawn if cell.result is not None}


BASE = Request(prompt="a red apple", seed=7, steps=2, guidance_scale=3.0)


def test_cells_of_a_sheet_share_words_and_starting_pictures(pocket: Model) -> None:
    tower, encoder = pocket.parts.towers[0], pocket.parts.autoencoder.encoder
    start = BASE.replace(init_image=RED, strength=0.8)
    with calls(tower) as texts, calls(encoder) as pictures:
        cells = sheet(pocket, start, "steps=2,3", "guidance=2,3", "strength=0.5,0.8")
    assert len(cells) == 8
    assert len(texts) == 2, "the prompt and the empty negative one"
    assert len(pictures) == 1
    alone = pocket.generate(start.replace(steps=3, guidance_scale=3.0, strength=0.5))
    assert (
        cells[
            "steps 3",
            "guidance 3",
            "strength 0.5",
        ]
        == alone.images[0].tobytes()
    )


def test_other_words_and_other_pictures_are_computed(pocket: Model, tmp_path: Path) -> None:
    RED.save(tmp_path / "red.png")
    RED.rotate(90).resize((48, 48)).save(tmp_path / "other.png")
    base = BASE.replace(init_image=tmp_path / "red.png", width=32, height=32)
    names = ",".join(str(tmp_path / name) for name in ("red.png", "other.png"))
    with calls(pocket.parts.towers[0]) as texts, calls(pocket.parts.autoencoder.encoder) as pictures:
        cells = sheet(pocket, base, "replace=apple,car,house", f"init_image={names}")
    assert len(texts) == 4, "three prompts and the empty one"
    assert len(pictures) in (1, 2), "the other is one colour too; its latents may be those of the first"
    assert len(cells) == 6


def test_passes_and_pictures_of_a_job_share_words(pocket: Model) -> None:
    options: dict[str, Any] = {"init_image": RED, "loops": 3}
    with calls(pocket.parts.towers[0]) as texts, calls(pocket.parts.autoencoder.encoder) as pictures:
        several = pocket.generate(BASE, count=2, **options)
    assert len(texts) == 2
    assert len(pictures) == 5, "the start once, and two results of each picture"
    for place, seed in enumerate((7, 8)):
        assert several.images[place].tobytes() == pocket.generate(BASE, **options, seed=seed).images[0].tobytes()


def test_the_first_pass_is_made_ready_once(pocket: Model) -> None:
    keys = next(module for name, module in pocket.parts.unet.named_modules() if name.endswith("attn2.to_k"))
    with calls(keys) as asked:
        pocket.generate(BASE, init_image=RED, loops=2)
    assert len(asked) == 2, "the words' keys, once for each pass"


def test_frames_between_two_prompts_share_them(pocket: Model) -> None:
    with calls(pocket.parts.towers[0]) as texts:
        list(interpolated(pocket.parts, BASE, "a blue car", 4))
    assert len(texts) == 3


def test_learned_words_and_adapters_are_kept_apart(pocket: Model) -> None:
    memo, tower = Memo(), pocket.parts.towers[0]

    class Other(Chosen):
        reading = ("another",)

    made: list[str] = []

    def features(name: str) -> Callable[[], Any]:
        def make() -> Any:
            made.append(name)
            with torch.no_grad():
                return tower(torch.zeros(1, 3, dtype=torch.long))

        return make

    key = ((1, 2, 3), (), frozenset[int]())
    for chosen, name in ((Chosen(), "plain"), (Other(), "other"), (Chosen(), "plain again"), (Other(), "other again")):
        memo.reader(chosen)(tower)(key, features(name))
    assert made == ["plain", "other"]


def test_what_is_not_finite_is_not_kept(pocket: Model) -> None:
    memo, tower = Memo(), pocket.parts.towers[0]
    with torch.no_grad():
        good = tower(torch.zeros(1, 3, dtype=torch.long))
    bad = type(good)(good.hidden, good.last, good.pooled * float("nan"))
    key = ((0, 0, 0), (), frozenset[int]())
    recall = memo.reader(Chosen())(tower)
    assert recall(key, lambda: bad) is bad
    assert recall(key, lambda: good) is good
    assert recall(key, lambda: bad) is good


@torch.inference_mode()
def test_only_the_latest_pictures_are_kept(pocket: Model) -> None:
    memo = Memo()
    side = SPECS["pocket"].autoencoder.downscale * 2
    pixels = [torch.full((1, 3, side, side), value / 100) for value in range(MOST_PICTURES + 1)]
    first = memo.encoded(pocket.parts, pixels[0], None, "none")
    assert memo.encoded(pocket.parts, pixels[0].clone(), None, "none") is first
    assert memo.encoded(pocket.parts, pixels[0], None, "x") is not first
    for picture in pixels[1:]:
        memo.encoded(pocket.parts, picture, None, "none")
    again = memo.encoded(pocket.parts, pixels[0], None, "none")
    assert again is not first and torch.equal(again, first)


@pytest.mark.parametrize("axes", ["none", "both"])
def test_frames_may_be_seamless(pocket: Model, axes: str) -> None:
    start = BASE.replace(seamless=axes)
    *_, (_, last) = interpolated(pocket.parts, start, "a blue car", 2)
    alone = pocket.generate(start.replace(prompt="a blue car"))
    assert last.result.images[0].tobytes() == alone.images[0].tobytes()
