"""A model taken apart: what is told of its blocks is what the networks are and do."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor, nn

from rein.explain.network import DISCRIMINATOR_CHANNELS, Network, networks
from rein.explain.network_drawing import count, duration, network_svg
from rein.explain.network_page import SAID, network_page, write_drawings
from rein.nn.attention import Attention
from rein.nn.clip import CausalAttention
from rein.pipeline.model import Model
from rein.training.tables import AutoencoderTable
from tests.explain.conftest import Loader, Run
from tests.explain.outline import Outline


@pytest.fixture(scope="module")
def taken(pocket: Model) -> list[Network]:
    return list(networks(pocket.parts, (48, 32), timed=False))


def counted_by_hand(network: nn.Module, call: object) -> int:
    """Multiply-adds of a real call, from the sizes of what every layer is given and gives."""
    total = 0

    def plain(module: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
        nonlocal total
        weight = module.weight
        assert isinstance(weight, Tensor)
        total += result.numel() * weight[0].numel()

    def attended(query: Tensor, key: Tensor) -> None:
        nonlocal total
        total += 2 * query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2] * query.shape[3]

    handles = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            handles.append(module.register_forward_hook(plain))
        if isinstance(module, Attention | CausalAttention):
            module.probe = attended
    with torch.no_grad():
        call()  # type: ignore[operator]
    for handle in handles:
        handle.remove()
    for module in network.modules():
        if isinstance(module, Attention | CausalAttention):
            module.probe = None
    return total


@pytest.mark.parametrize("family", ["pocket", "sd1", "sdxl"])
def test_multiply_adds_are_those_of_a_real_call(small_model: Loader, family: str) -> None:
    parts = small_model(family).parts
    found = {network.name: network for network in networks(parts, (64, 32), timed=False)}
    config, unit = parts.spec.unet, parts.spec.autoencoder.downscale
    x = torch.zeros(1, config.in_channels, 32 // unit, 64 // unit)
    pooled = torch.zeros(1, config.pooled_width) if config.pooled_width else None
    sizes = torch.zeros(1, config.size_ids) if config.size_ids else None
    context = torch.zeros(1, parts.spec.towers[0].context_length, config.context_width)
    by_hand = {
        "unet": counted_by_hand(parts.unet, lambda: parts.unet(x, torch.zeros(1), context, pooled, sizes)),
        "autoencoder": counted_by_hand(
            parts.autoencoder,
            lambda: parts.autoencoder.decode(parts.autoencoder.encode(torch.zeros(1, 3, 32, 64)).mean),
        ),
        "text-tower": counted_by_hand(
            parts.towers[0], lambda: parts.towers[0](torch.zeros(1, context.shape[1], dtype=torch.long))
        ),
    }
    assert {name: found[name].multiply_adds for name in by_hand} == by_hand


@pytest.mark.parametrize("family", ["pocket", "sd1", "sdxl"])
def test_every_parameter_is_in_one_block(small_model: Loader, family: str) -> None:
    parts = small_model(family).parts
    for network in networks(parts, timed=False):
        assert sum(block.parameters for block in network.blocks) == network.parameters, network.name
        assert len({block.name for block in network.blocks}) == len(network.blocks)


def test_shapes_are_those_of_the_live_blocks(pocket: Model, taken: list[Network]) -> None:
    unet, seen = pocket.parts.unet, dict[str, tuple[int, ...]]()
    handles = [
        unet.get_submodule(block.name).register_forward_hook(
            lambda module, given, result, name=block.name: seen.setdefault(name, tuple(result.shape[1:])) and None
        )
        for block in taken[0].blocks
    ]
    next(pocket.steps("a red apple", seed=1, steps=1, width=48, height=32))
    for handle in handles:
        handle.remove()
    told = {block.name: block.gives for block in taken[0].blocks if len(block.gives) == 3}
    assert len(told) > 15
    assert {name: seen[name] for name in told} == told  # embeddings are asked once for all steps, with more rows


def test_the_order_is_that_of_the_work(taken: list[Network]) -> None:
    names = [network.name for network in taken]
    assert names == ["unet", "autoencoder", "text-tower", "discriminator"]
    blocks = [block.name.partition(".")[0] for block in taken[0].blocks]
    order = ["time_embedding", "add_embedding", "conv_in", "down_blocks", "mid_block", "up_blocks"]
    assert list(dict.fromkeys(blocks)) == [*order, "conv_norm_out", "conv_out"] or blocks[0] in ("conv_in", *order)
    assert blocks.index("down_blocks") < blocks.index("mid_block") < blocks.index("up_blocks")


def test_time_is_measured_where_it_is_asked_for(pocket: Model, taken: list[Network]) -> None:
    for network in networks(pocket.parts):
        assert network.seconds is not None and network.seconds > 0
        assert all(block.seconds is not None and 0 < block.seconds < network.seconds for block in network.blocks)
    assert all(block.seconds is None for network in taken for block in network.blocks)
    watched = [*pocket.parts.unet.modules(), *pocket.parts.autoencoder.modules(), *pocket.parts.towers[0].modules()]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in watched)


def test_asking_for_time_leaves_the_random_numbers_alone(pocket: Model) -> None:
    before = torch.random.get_rng_state()
    list(networks(pocket.parts))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_discriminator_is_that_of_training() -> None:
    assert AutoencoderTable.model_fields["discriminator_channels"].default == DISCRIMINATOR_CHANNELS


@pytest.mark.parametrize("family", ["pocket", "sd1", "sdxl"])
def test_drawings_are_whole(small_model: Loader, family: str) -> None:
    for network in networks(small_model(family).parts, timed=False):
        drawn = network_svg(network, alone=True)
        root = ElementTree.fromstring(drawn)
        space = "{http://www.w3.org/2000/svg}"
        boxes = [entry for entry in root.iter(f"{space}rect") if entry.get("class") == "box"]
        assert root.tag == f"{space}svg" and len(boxes) == len(network.blocks)
        left, top, width, height = (float(part) for part in str(root.get("viewBox")).split())
        places = {(box.get("x"), box.get("y")) for box in boxes}
        assert len(places) == len(boxes)  # none lies on another
        for entry in root.iter(f"{space}rect"):
            assert float(entry.get("x", 0)) + float(entry.get("width", 0)) <= left + width
            assert float(entry.get("y", 0)) + float(entry.get("height", 0)) <= top + height
        assert not re.search(r"https?://(?!www.w3.org/2000/svg)|href|url\(", drawn)


def test_the_page_tells_of_every_network(pocket: Model, taken: list[Network], tmp_path: Path) -> None:
    outline = Outline(network_page(pocket, taken, "docs/{}.md").render())
    assert outline.ids == ["networks", *(network.name for network in taken)]
    root = Path(__file__).parent.parent.parent
    for link in outline.links:
        page, _, anchor = link.partition("#")
        assert f"{{#{anchor}}}" in (root / page).read_text(encoding="utf-8")
    assert set(SAID) == {network.name for network in taken}
    for network in taken:
        assert f"{network.parameters:,}" in outline.said
    paths = write_drawings(taken, tmp_path / "small.html")
    assert [path.name for path in paths] == [f"small-{network.name}.svg" for network in taken]


def test_numbers_for_people() -> None:
    assert [count(number) for number in (789, 45_600, 1_234_567, 999_800_000, 2_500_000_000)] == [
        *("789", "45.6 k", "1.23 M", "1000 M", "2.5 G")
    ]
    assert [duration(seconds) for seconds in (0.00056, 0.034, 1.23)] == ["0.56 ms", "34 ms", "1.2 s"]
    assert [duration(seconds) for seconds in (0.0996, 0.41, 0.9994, 14.2, 361)] == [
        "100 ms", "410 ms", "999 ms", "14 s", "361 s"
    ]  # fmt: skip


def test_the_command_draws_a_model(rein: Run, tiny: str, tmp_path: Path) -> None:
    done = rein("explain", "--model", tiny, "-o", "small.html", "--width", 48)
    assert (done.code, done.out.splitlines()[-1]) == (0, "small.html")
    names = {path.name for path in tmp_path.iterdir()}
    kinds = ("unet", "autoencoder", "text-tower", "discriminator")
    assert names == {"small.html", *(f"small-{kind}.svg" for kind in kinds)}
    assert "48 × 32 pixels" in (tmp_path / "small.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model",), "--trace goes with a prompt"),
        (("--model", "pocket"), "--trace goes with a prompt"),
        (("--model", "no-such-folder"), "--trace goes with a prompt"),
        ((), "there is no prompt"),
    ],
)
def test_the_model_alone_has_no_trace(rein: Run, arguments: tuple[str, ...], said: str) -> None:
    done = rein("explain", *arguments, "--trace", "x")
    assert done.code == 2 and said in done.err and len(done.err.splitlines()) == 1
