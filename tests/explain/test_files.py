"""Traces as files, and two of them compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rein.errors import DamagedFileError, InputError, OutputError, ReinError
from rein.explain.diff import HEAD, PARTED, compare, diff_page, rows
from rein.explain.file import STEP_TENSORS, Trace, read_trace, relative_difference, trace_paths, write_trace
from rein.explain.trace import Explanation, explain
from rein.pipeline.model import Model
from rein.pipeline.request import Request
from tests.explain.conftest import nearly_full


@pytest.fixture
def trace(apple: Explanation, tmp_path: Path) -> Trace:
    """A trace that was written and read."""
    write_trace(apple, tmp_path / "apple")
    return read_trace(tmp_path / "apple")


def changed(path: Path, **facts: Any) -> None:
    """The JSON file of a trace with some entries replaced."""
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_a_trace_comes_back_whole(apple: Explanation, trace: Trace) -> None:
    for record in apple.kept:
        found = trace.step(record.index)
        assert set(found) == set(STEP_TENSORS)
        for name in STEP_TENSORS:
            assert torch.equal(found[name], getattr(record, name))
    assert torch.equal(trace.tensors["noise"], apple.noise)
    assert torch.equal(trace.tensors["sigmas"], apple.sigmas)
    assert torch.equal(trace.tensors["tower.0.attention"], apple.words.towers[0].attention)
    assert torch.equal(trace.tensors["heat.steps"], apple.heat_maps.by_step())
    for layer in trace.facts["layers"]:
        assert torch.equal(trace.tensors[f"heat.layer.{layer}"], apple.heat_maps.layer(layer))
    assert Request.model_validate(trace.facts["request"]) == apple.request
    assert [token["id"] for token in trace.facts["words"]["tokens"]] == [token.id for token in apple.words.tokens]
    assert trace.steps[1]["guidance"]["turn"] == apple.numbers[1].guidance.turn  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["apple", "apple.json", "apple.safetensors"])
def test_any_ending_names_both_files(name: str) -> None:
    assert trace_paths(f"folder/{name}") == (Path("folder/apple.safetensors"), Path("folder/apple.json"))


def test_what_is_no_trace_is_refused(trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "apple.json"
    whole = path.read_text()
    with pytest.raises(InputError, match="there is no trace .*pear.json; make one"):
        read_trace(tmp_path / "pear")
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(DamagedFileError, match="is not JSON, or was cut short"):
        read_trace(path)
    for text in ("[]", "{}", '{"format": "other"}'):
        path.write_text(text)
        with pytest.raises(InputError, match="is not a trace of `rein explain --trace`"):
            read_trace(path)
    path.write_text(whole)
    changed(path, version=2)
    with pytest.raises(InputError, match="is a trace of version 2: this Rein reads 1"):
        read_trace(path)
    path.write_text(whole)
    broken: list[dict[str, Any]] = [{"steps": []}, {"steps": [{"index": 0}]}, {"tensors": None}, {"request": 3}]
    for facts in broken:
        path.write_text(whole)
        changed(path, **facts)
        with pytest.raises(DamagedFileError, match="parts missing"):
            read_trace(path)


def test_tensors_must_be_whole_and_belong_to_it(trace: Trace, apple: Explanation, tmp_path: Path) -> None:
    path = tmp_path / "apple.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(DamagedFileError, match="cut short"):
        read_trace(path)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DamagedFileError, match="does not belong to"):
        read_trace(path)
    path.unlink()
    with pytest.raises(InputError, match="a trace is two files"):
        read_trace(path)


def test_an_unwritable_place_is_said(apple: Explanation, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="its folder does not exist"):
        write_trace(apple, tmp_path / "missing" / "apple")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["nothing", "the JSON file alone"])
@pytest.mark.parametrize("replacing", [False, True])
def test_a_disk_that_is_full_leaves_no_half_of_a_trace(
    pocket: Model, tmp_path: Path, what: str, replacing: bool
) -> None:
    """There is room for nothing, or for the smaller of the two files; a trace that was there stays as it was."""
    other, longer = (explain("a blue car", pocket, seed=8, steps=steps).finish() for steps in (2, 40))
    tensors, facts = write_trace(longer, tmp_path / "measured")
    room = 1000 if what == "nothing" else facts.stat().st_size + 1000
    assert room < tensors.stat().st_size
    before = [write_trace(other, tmp_path / "apple") if replacing else ()]
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with nearly_full(room), pytest.raises(OutputError, match="cannot write .*apple"):
        write_trace(longer, tmp_path / "apple")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept
    if before[0]:
        assert read_trace(tmp_path / "apple").facts["words"]["prompt"] == "a blue car"


def test_a_trace_equals_itself(trace: Trace) -> None:
    found = compare(trace, trace)
    assert found.verdict() == "The two traces are equal to the last bit."
    assert found.parting is None and found.settings == () and found.noise == 0 and found.words == 0
    assert [step.index for step in found.steps] == [0, 1, 2, 3]


def test_the_step_where_they_part_is_found(trace: Trace) -> None:
    tensors = dict(trace.tensors)
    tensors["step.0001.latents"] = tensors["step.0001.latents"] * (1 + PARTED / 10)
    tensors["step.0002.wanted"] = tensors["step.0002.wanted"] * 1.05
    found = compare(trace, Trace(Path("other.json"), trace.facts, tensors))
    assert found.parting is not None and found.parting.index == 2
    assert found.parting.largest == pytest.approx(0.05 / 1.025, rel=1e-4)
    assert "step 3," in found.verdict() and "wanted differs by 4.9e-02" in found.verdict()
    tensors["step.0002.wanted"] = trace.tensors["step.0002.wanted"]
    assert compare(trace, Trace(Path("other.json"), trace.facts, tensors)).verdict().startswith("They stay together")


def test_another_seed_parts_before_the_first_step(trace: Trace, pocket: Model, tmp_path: Path) -> None:
    write_trace(explain("a red apple, flat style", pocket, seed=8, steps=4).finish(), tmp_path / "other")
    found = compare(trace, read_trace(tmp_path / "other"))
    assert found.verdict() == "They part before the first step: their starting noise differs."
    assert found.settings == (("seed", "7", "8"),)
    assert found.noise > 0.5


def test_another_word_parts_in_the_text_tower(trace: Trace, pocket: Model, tmp_path: Path) -> None:
    write_trace(explain("a blue apple, flat style", pocket, seed=7, steps=4).finish(), tmp_path / "other")
    found = compare(trace, read_trace(tmp_path / "other"))
    assert found.verdict() == "They part before the first step: the text towers gave other results."


def test_other_step_counts_are_paired_by_noise_level(trace: Trace, pocket: Model, tmp_path: Path) -> None:
    write_trace(explain("a red apple, flat style", pocket, seed=7, steps=9).finish(), tmp_path / "other")
    other = read_trace(tmp_path / "other")
    found = compare(trace, other)
    for step in found.steps:
        gaps = [abs(torch.log(torch.tensor(entry["sigma"] / step.sigma))) for entry in other.steps]
        assert gaps[step.other] == min(gaps)
    table = rows(found)
    assert all(len(row) == len(HEAD) for row in table)
    assert any("/" in row[0] for row in table)
    page = diff_page(found).render()
    assert "<svg" in page and found.verdict() in page.replace("&#x27;", "'")


def test_relative_difference() -> None:
    one = torch.tensor([3.0, 4.0])
    assert relative_difference(one, one) == 0
    assert relative_difference(one, -one) == pytest.approx(2)
    assert relative_difference(torch.zeros(2), torch.zeros(2)) == 0
    assert relative_difference(one, torch.zeros(3)) == float("inf")


def test_a_trace_of_an_unfinished_picture_is_refused(pocket: Model, tmp_path: Path) -> None:
    explanation = explain("a red apple", pocket, seed=7, steps=2)
    next(iter(explanation))
    with pytest.raises(ReinError, match="not finished"):
        write_trace(explanation, tmp_path / "apple")
    assert list(tmp_path.iterdir()) == []
