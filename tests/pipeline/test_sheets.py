"""Sheets: what is planned, in which order it is drawn, and that each cell is the picture of its request."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from rein.errors import InputError
from rein.pipeline.axes import matrix_axes, read_axis
from rein.pipeline.model import Model
from rein.pipeline.request import Request
from rein.pipeline.sheets import MAX_CELLS, DrawnCell, SheetPlan, draw_sheet, plan_sheet, sheet_texts

BASE = Request(prompt="a red apple", seed=7, steps=2)


def plan(*axes: str, base: Request = BASE) -> SheetPlan:
    return plan_sheet(base, *(read_axis(axis) for axis in axes))


def drawn(model: Model, planned: SheetPlan) -> list[DrawnCell]:
    found = [cell for step in draw_sheet(model, planned) for cell in step.finished]
    return sorted(found, key=lambda cell: planned.cells.index(cell.cell))


def values(planned: SheetPlan, *names: str) -> list[Sequence[object]]:
    requests = [cell.request for cell in planned.cells]
    return [[getattr(request, name) for name in names] for request in requests]


def test_cells_are_listed_row_by_row() -> None:
    planned = plan("steps=1,2", "guidance=3,4", "eta=0,1")
    assert [cell.place for cell in planned.cells[:5]] == [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 1)]
    assert values(planned, "steps", "guidance_scale", "eta")[2] == [1, 4, 0]
    assert planned.cells[2].labels == ("steps 1", "guidance 4", "eta 0")


def test_every_cell_is_the_picture_of_its_request(pocket: Model) -> None:
    planned = plan("steps=1,2", "replace=red,blue")
    cells = drawn(pocket, planned)
    assert [cell.cell for cell in cells] == list(planned.cells)
    for cell in cells:
        assert cell.result is not None and cell.cell.request is not None
        alone = pocket.generate(cell.cell.request)
        assert cell.result.images[0].tobytes() == alone.images[0].tobytes()
        assert cell.result.manifest(0) == alone.manifest(0)
    assert len({cell.result.images[0].tobytes() for cell in cells if cell.result}) == 4


def test_one_seed_for_all_unless_an_axis_has_it() -> None:
    free = Request(prompt="a", steps=1)
    assert len({seed for [seed] in values(plan("steps=1-3", base=free), "seed")}) == 1
    assert values(plan("seed=4-6"), "seed") == [[4], [5], [6]]
    turned = plan("variation_strength=0,0.5,1")
    [[first], [second], [third]] = values(turned, "variation_seed")
    assert first is None and second == third is not None
    given = plan("variation_strength=0,0.5", base=free.replace(variation_strength=0.1, variation_seed=5))
    assert values(given, "variation_seed") == [[None], [5]]


def test_texts_are_replaced_one_axis_after_the_other() -> None:
    base = BASE.replace(prompt="a red apple", negative_prompt="red")
    planned = plan("replace=red,blue", "replace=blue,green", base=base)
    found = values(planned, "prompt", "negative_prompt")
    assert found[0] == ["a red apple", "red"]
    assert found[3] == ["a green apple", "green"]
    prompts = plan('prompt="a cat","a red cat"', "replace=red,")
    assert [prompt for [prompt] in values(prompts, "prompt")] == ["a cat", "a red cat", "a cat", "a  cat"]


def test_a_matrix_adds_texts_in_their_order() -> None:
    prompt, x, y = matrix_axes("a street|rain|night|red")
    planned = plan_sheet(BASE.replace(prompt=prompt), x, y)
    assert len(planned.cells) == 8
    assert values(planned, "prompt")[-1] == ["a street, rain, night, red"]
    assert values(planned, "prompt")[0] == ["a street"]


def test_neighbouring_seeds_are_one_request_and_words_change_least() -> None:
    planned = plan("replace=red,blue", "seed=7-9,20,8")
    requests = [group.request for group in planned.groups]
    assert [(request.prompt, request.seed, request.count) for request in requests] == [
        ("a red apple", 7, 3),
        ("a red apple", 20, 1),
        ("a blue apple", 7, 3),
        ("a blue apple", 20, 1),
    ]
    assert len(planned.groups[0].cells[8]) == 2  # twice on the axis, drawn once
    turned = plan("seed=1-3", base=BASE.replace(variation_strength=0.5, variation_seed=1))
    assert [group.request.count for group in turned.groups] == [1, 1, 1]
    adapters = plan('loras="[]","[""a.safetensors""]"', "prompt=a,b")
    assert [bool(group.request.loras) for group in adapters.groups] == [False, False, True, True]
    assert {cell.place for group in planned.groups for cells in group.cells.values() for cell in cells} == {
        cell.place for cell in planned.cells
    }


def test_a_batch_of_seeds_gives_each_cell_its_own_picture(pocket: Model) -> None:
    cells = drawn(pocket, plan("seed=7-9,8"))
    alone = {seed: pocket.generate(BASE.replace(seed=seed)) for seed in (7, 8, 9)}
    for cell, seed in zip(cells, (7, 8, 9, 8), strict=True):
        assert cell.result is not None
        assert (cell.result.seeds, cell.result.single(0).count) == ([seed], 1)
        assert cell.result.texts(0) == alone[seed].texts(0)
        assert cell.result.images[0].tobytes() == alone[seed].images[0].tobytes()


def test_a_cell_that_fails_does_not_stop_the_rest(pocket: Model) -> None:
    """Euler reads no eta, and a width must be a multiple of 8."""
    cells = drawn(pocket, plan("sampler=euler,ddim", "eta=0,0.5", "width=32,33"))
    assert all((cell.result is None) == bool(cell.problem) for cell in cells)
    by_labels = {cell.cell.labels: cell.problem for cell in cells}
    assert by_labels["sampler ddim", "eta 0.5", "width 32"] == ""
    assert "sampler 'euler' has none" in by_labels["sampler euler", "eta 0.5", "width 32"]
    assert "needs a multiple of 8" in by_labels["sampler ddim", "eta 0", "width 33"]
    assert sum(cell.result is not None for cell in cells) == 2


def test_seeds_of_a_batch_fail_one_by_one(pocket: Model, tmp_path: object) -> None:
    base = BASE.replace(prompt="{an apple|__nothing__}", wildcards=str(tmp_path), steps=1)
    cells = drawn(pocket, plan("seed=0-7", base=base))
    good = [cell for cell in cells if cell.result is not None]
    bad = [cell for cell in cells if cell.result is None]
    assert good and bad
    assert all("unknown wildcard '__nothing__'" in cell.problem for cell in bad)
    assert [cell.cell.place[0] for cell in cells] == list(range(8))


REFUSED = {
    ("steps=1,2", "steps=3,4"): "steps is on two axes",
    ("size=64x64", "width=32"): "width is on two axes",
    ("replace=pear,apple",): "'pear' is in no prompt",
    ("steps=5,0",): "steps is 0: it must be",
    ("sampler=euler,eulr",): "unknown sampler 'eulr'",
    ("seed=1-100", "steps=1-50"): f"5000 cells: {MAX_CELLS} at most",
}


@pytest.mark.parametrize("axes", REFUSED)
def test_what_no_cell_can_have_is_refused_at_once(axes: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        plan(*axes)
    assert REFUSED[axes] in str(caught.value)


def test_several_pictures_in_a_cell_are_refused() -> None:
    with pytest.raises(InputError, match="put seeds on an axis"):
        plan("steps=1", base=BASE.replace(count=2))


def test_what_the_file_says(pocket: Model) -> None:
    planned = plan('prompt="a, b",c', "guidance=2,3")
    first = drawn(pocket, planned)[0].result
    assert first is not None
    texts = sheet_texts(planned, first)
    assert texts["parameters"].endswith(
        'Script: X/Y/Z plot, X Type: prompt, X Values: "a, b, c", Y Type: guidance_scale, Y Values: "2, 3"'
    )
    assert texts["parameters"].startswith("a, b\nSteps: 2,")
    record = json.loads(texts["rein-sheet"])
    assert record["axes"][1] == {"axis": "guidance_scale", "values": ["2", "3"]}
    assert Request.model_validate(record["request"]) == planned.request
