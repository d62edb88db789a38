"""Mixtures of models, compared with the formulas written out for each tensor of the published names."""

import json
import re
from pathlib import Path

import pytest
import torch

from rein.errors import InputError
from rein.formats.adapters import read_adapter
from rein.formats.adapters_names import parts_of, targets_of
from rein.formats.adapters_save import save_adapter
from rein.formats.folder import file_digest
from rein.formats.keys import key_map, part_names
from rein.formats.merge import MERGE_KEY, Baked, Recipe, block_names, merge, parse_blocks
from rein.formats.single import LoadOptions
from rein.formats.sources import open_model
from rein.formats.weights import open_weights
from rein.nn.adapters_merge import Merger
from rein.nn.specs import SD15, SDXL
from tests.formats.families import FAMILIES, single_file, state
from tests.formats.random_adapters import KINDS, random_changes
from tests.formats.test_weights import same_bits
from tests.pipeline.small import networks, save_small

States = dict[str, torch.Tensor]


def files(folder: Path, family: str, count: int) -> tuple[list[Path], list[States]]:
    spec = FAMILIES[family]
    paths = [single_file(folder / f"{seed}.safetensors", spec, seed) for seed in range(count)]
    return paths, [state(spec, seed) for seed in range(count)]


def check(path: Path, expected: States) -> None:
    weights = open_weights(path)
    assert weights.keys() == expected.keys()
    wrong = [name for name, tensor in expected.items() if not same_bits(weights[name], tensor)]
    assert not wrong


def block_by_hand(name: str, last: int) -> str:
    """As the merge-block-weighted extension counts, from published names."""
    inner = re.match(r"model\.diffusion_model\.input_blocks\.(\d+)\.", name)
    outer = re.match(r"model\.diffusion_model\.output_blocks\.(\d+)\.", name)
    if inner:
        return f"IN{int(inner[1]):02}"
    if outer:
        return f"OUT{int(outer[1]):02}"
    if ".middle_block." in name:
        return "MID"
    if not name.startswith("model.diffusion_model."):
        return "BASE"
    return f"OUT{last:02}" if name.startswith("model.diffusion_model.out.") else "IN00"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_weighted_sum(tmp_path: Path, family: str) -> None:
    paths, (first, second) = files(tmp_path, family, 2)
    target = tmp_path / "sum.safetensors"
    merge(target, [open_model(path) for path in paths], Recipe(weight=0.3))
    check(target, {name: (a.float() * 0.7 + second[name].float() * 0.3).half() for name, a in first.items()})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_difference_added(tmp_path: Path, family: str) -> None:
    paths, (first, second, base) = files(tmp_path, family, 3)
    target = tmp_path / "sum.safetensors"
    merge(target, [open_model(path) for path in paths], Recipe(weight=0.8, dtype=torch.float32))
    check(
        target,
        {name: a.float() + (second[name].float() - base[name].float()) * 0.8 for name, a in first.items()},
    )


@pytest.mark.parametrize(("family", "count"), [("sd1", 12), ("sd2-v", 12), ("sdxl", 9)])
def test_weights_of_blocks(tmp_path: Path, family: str, count: int) -> None:
    paths, (first, second) = files(tmp_path, family, 2)
    spec = FAMILIES[family]
    assert len(block_names(spec)) == 2 * count + 1
    numbers = [0.01 * (index + 1) for index in range(2 * count + 2)]
    names = ["BASE", *(f"IN{i:02}" for i in range(count)), "MID", *(f"OUT{i:02}" for i in range(count))]
    weights = dict(zip(names, numbers, strict=True))
    chosen = parse_blocks(",".join(f"{number:.2f}" for number in numbers), spec)
    assert chosen == {name: round(number, 2) for name, number in weights.items()}
    target = tmp_path / "sum.safetensors"
    merge(target, [open_model(path) for path in paths], Recipe(blocks=chosen))
    used = {name: chosen[block_by_hand(name, count - 1)] for name in first}
    assert set(used.values()) == set(chosen.values())  # every block has tensors
    check(
        target,
        {name: (a.float() * (1 - used[name]) + second[name].float() * used[name]).half() for name, a in first.items()},
    )


def test_weights_of_blocks_as_text() -> None:
    assert len(block_names(SD15)) == 25 and len(block_names(SDXL)) == 19
    assert parse_blocks("in00=0.5, M00=1,BASE=0", SD15) == {"IN00": 0.5, "MID": 1.0, "BASE": 0.0}
    wide = ",".join(str(number / 100) for number in range(26))
    assert parse_blocks(wide, SDXL) == {
        "BASE": 0.0, **{f"IN{i:02}": (i + 1) / 100 for i in range(9)}, "MID": 0.13,
        **{f"OUT{i:02}": (i + 14) / 100 for i in range(9)},
    }  # fmt: skip
    for text, message in [
        ("1,2,3", "has 3 numbers; a model 'sd15' takes 25 or 26"),
        ("IN12=1", "has the name 'IN12'; known: BASE, IN00 to OUT11, MID"),
        ("IN00=much", "'much', which is not a number"),
        ("IN00=nan", "a weight of blocks is nan; allowed: -10 to 10"),
        ("IN00=11", "a weight of blocks is 11.0; allowed: -10 to 10"),
    ]:
        with pytest.raises(InputError, match=message):
            parse_blocks(text, SD15)


def test_a_weight_of_nothing_leaves_every_bit(tmp_path: Path) -> None:
    paths, (first, second) = files(tmp_path, "sd1", 2)
    target = tmp_path / "sum.safetensors"
    merge(target, [open_model(path) for path in paths], Recipe(weight=0))
    check(target, first)
    merge(target, [open_model(path) for path in paths], Recipe(weight=1))
    check(target, {name: (tensor.float() + first[name].float() * 0).half() for name, tensor in second.items()})


def test_an_autoencoder_and_adapters_are_baked_in(tmp_path: Path) -> None:
    spec = FAMILIES["sd1"]
    paths, (first, second) = files(tmp_path, "sd1", 2)
    targets = targets_of(spec)
    adapters = []
    for seed, weight, text_weight in (1, 0.7, None), (2, 0.4, 0.9):
        changes = random_changes(targets, KINDS["lora"], seed=seed)
        save_adapter(tmp_path / f"lora{seed}.safetensors", changes, targets)
        adapters.append(Baked(read_adapter(tmp_path / f"lora{seed}.safetensors", targets), weight, text_weight))
    recipe = Recipe(autoencoder=paths[1], baked=tuple(adapters), dtype=torch.float32)
    merge(tmp_path / "baked.safetensors", [open_model(paths[0])], recipe)

    unet, autoencoder, towers = networks(spec)
    modules = [module.half().float() for module in (unet, autoencoder, *towers)]
    uses = [baked.adapter.use(baked.weight, baked.text_weight) for baked in adapters]
    with Merger(parts_of(unet, towers)).using(uses):
        states = {p: module.state_dict() for p, module in zip(part_names(spec), modules, strict=True)}
        expected = {
            entry.original: entry.to_original([states[entry.part][name] for name in entry.natives]).clone()
            for entry in key_map(spec).entries
        }
    expected |= {name: value.float() for name, value in second.items() if name.startswith("first_stage_model.")}
    check(tmp_path / "baked.safetensors", expected)
    changed = [name for name, value in first.items() if not torch.equal(expected[name], value.float())]
    assert any("diffusion_model" in name for name in changed) and any("cond_stage" in name for name in changed)


def test_the_result_names_its_parents(tmp_path: Path) -> None:
    paths, _ = files(tmp_path, "sd1", 3)
    target = tmp_path / "sum.safetensors"
    recipe = Recipe(weight=0.25, blocks={"IN03": 1.0}, autoencoder=paths[2])
    done = merge(target, [open_model(path) for path in paths[:2]], recipe)
    assert (done.path, done.form, done.family, done.notes) == (target, "file", "sd1", ())
    assert json.loads(open_weights(target).metadata[MERGE_KEY]) == {
        "method": "weighted sum",
        "models": [{"name": path.name, "sha256": file_digest(path)} for path in paths[:2]],
        "weight": 0.25,
        "blocks": {"IN03": 1.0},
        "autoencoder": {"name": "2.safetensors", "sha256": file_digest(paths[2])},
    }
    assert open_model(target).spec == FAMILIES["sd1"]


def test_folders_and_checkpoints_are_mixed_too(tmp_path: Path) -> None:
    one, two = (save_small(tmp_path / name, "pocket", torch.float32, seed) for seed, name in enumerate("ab"))
    merge(tmp_path / "c", [open_model(one), open_model(two)], Recipe(weight=0.5), "rein")
    first, second, mixed = (open_weights(folder / "unet.safetensors") for folder in (one, two, tmp_path / "c"))
    for name, tensor in first.items():
        assert torch.equal(mixed[name], tensor * 0.5 + second[name] * 0.5)
    assert json.loads(mixed.metadata[MERGE_KEY])["models"][0]["name"] == "a"
    spec = FAMILIES["sd1"]
    torch.save({"state_dict": state(spec, 1)}, tmp_path / "b.ckpt")
    options = LoadOptions(rows=(spec,), prediction="epsilon")
    models = [open_model(single_file(tmp_path / "a.safetensors", spec)), open_model(tmp_path / "b.ckpt", options)]
    merge(tmp_path / "c.safetensors", models, Recipe(weight=0.5))
    a, b = state(spec), state(spec, 1)
    check(tmp_path / "c.safetensors", {name: (a[name].float() * 0.5 + b[name].float() * 0.5).half() for name in a})


def test_what_does_not_belong_together_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    paths, _ = files(tmp_path, "sd1", 2)
    other = single_file(tmp_path / "xl.safetensors", FAMILIES["sdxl"])
    one, two, third = (open_model(path) for path in (*paths, other))
    before = sorted(tmp_path.iterdir())
    for models, recipe, message in [
        ([one, third], Recipe(), "'sdxl' differs from 'sd1' in its unet"),
        ([one, two, two, two], Recipe(), "4 models cannot be merged"),
        ([one], Recipe(), "one model alone is nothing to merge"),
        ([one, two], Recipe(weight=float("nan")), "weight is nan; allowed: -10 to 10"),
        ([one, two], Recipe(weight=11), "weight is 11"),
        ([one, two], Recipe(blocks={"IN99": 1.0}), "has the name 'IN99'"),
        ([one, two], Recipe(blocks={"IN00": 99.0}), "the weight of block IN00 is 99.0"),
    ]:
        with pytest.raises(InputError, match=message):
            merge(tmp_path / "out.safetensors", models, recipe)
    assert sorted(tmp_path.iterdir()) == before
