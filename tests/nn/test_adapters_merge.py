"""Adapters merged into networks: the same as beside them, and out again without a trace."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from rein.engines.cpu import lay_out
from rein.errors import InputError
from rein.formats.adapters_names import Targets
from rein.nn.adapters import Change, Place
from rein.nn.adapters_merge import Merger, Use
from rein.nn.specs import SD15
from rein.nn.unet import UNet
from tests.formats.random_adapters import KINDS, random_changes
from tests.nn.injection import injected
from tests.nn.peers import SMALL_UNETS, relative_error

CONFIG = SMALL_UNETS["sd1"].config
SPEC = replace(SD15, unet=CONFIG)


torch.manual_seed(5)
_FIRST = UNet(CONFIG).eval().requires_grad_(False)


def _unet(dtype: torch.dtype = torch.float32) -> UNet:
    return copy.deepcopy(_FIRST).to(dtype)


TARGETS = Targets.of(SPEC, {"unet": _unet()})
X, CONTEXT = (torch.randn(shape, generator=torch.Generator().manual_seed(6)) for shape in ((1, 4, 8, 8), (1, 7, 20)))


@torch.inference_mode()
def _run(unet: UNet) -> Tensor:
    dtype = unet.conv_in.weight.dtype
    return unet(X.to(dtype), torch.tensor([300]), CONTEXT.to(dtype)).float()  # type: ignore[no-any-return]


def _state(unet: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in unet.state_dict().items()}


def _bytes(state: Mapping[str, Tensor]) -> dict[str, bytes]:
    flat = {name: tensor.flatten().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
    return {name: tensor.view(torch.uint8).numpy().tobytes() for name, tensor in flat.items()}


def _changes(kind: str, seed: int = 0, every: int = 9) -> dict[Place, Change]:
    return random_changes(TARGETS, KINDS[kind], seed, every)


def _use(changes: Mapping[Place, Change], strength: float) -> Use:
    return Use("some", changes, {"unet": strength})


@pytest.mark.parametrize("kind", KINDS)
def test_merged_is_injected(kind: str) -> None:
    first, second = _changes(kind, 0, every=7), _changes("lora", 1, every=5)
    unet = _unet()
    merger = Merger({"unet": unet})
    with merger.using([_use(first, 0.5), _use(second, -0.3)]):
        merged = _run(unet)
    merger.restore()
    with injected({"unet": unet}, [(first, 0.5), (second, -0.3)]):
        expected = _run(unet)
    assert relative_error(merged, expected) < 5e-5
    assert relative_error(_run(unet), expected) > 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("laid_out", [False, True])
def test_taken_out_nothing_is_left(dtype: torch.dtype, laid_out: bool) -> None:
    unet = _unet(dtype)
    if laid_out:
        lay_out(unet, sort=True)
    before, plain = _bytes(_state(unet)), _run(unet)
    merger = Merger({"unet": unet})
    sets = [[_use(_changes(kind), 0.3)] for kind in ("lora", "full", "ia3")] + [[_use(_changes("loha", every=5), 0.5)]]
    with torch.inference_mode():
        for uses in sets:
            with merger.using(uses):
                changed = _run(unet)
            assert not torch.equal(changed, plain)
            assert merger.kept_bytes > 0
    merger.restore()
    assert merger.kept_bytes == 0
    assert _bytes(_state(unet)) == before
    assert torch.equal(_run(unet), plain)


@pytest.mark.parametrize("inference", [False, True])
def test_layers_with_sorted_weights_use_the_new_ones(inference: bool) -> None:
    """The network as a CPU runs it gives what the plain one gives, after each change, however often."""
    plain = _unet()
    with torch.inference_mode(inference):  # tensors made in it have no counter of changes
        laid_out = lay_out(_unet(), sort=True)
    assert isinstance(laid_out, UNet)
    one, other = Merger({"unet": plain}), Merger({"unet": laid_out})
    for seed in (0, 1, 0, 2):
        uses = [_use(_changes("lora", seed), 0.4)]
        with one.using(uses), other.using(uses):
            assert relative_error(_run(laid_out), _run(plain)) < 1e-5
    one.restore()
    other.restore()
    assert relative_error(_run(laid_out), _run(plain)) < 1e-5


def test_only_touched_layers_are_kept_twice() -> None:
    unet = _unet()
    changes = _changes("lora", every=10)
    touched = sum(unet.state_dict()[f"{path}.weight"].nbytes for _, path in changes)
    merger = Merger({"unet": unet})
    with merger.using([_use(changes, 1.0)]):
        assert merger.kept_bytes == touched
    with merger.using([_use(changes, 0.0)]):
        assert merger.kept_bytes == 0


def test_equal_sets_cost_nothing_and_order_does_not_matter() -> None:
    unet = _unet()
    merger, changes, more = Merger({"unet": unet}), _changes("dora"), _changes("lora", 1)
    with merger.using([_use(changes, 0.7), _use(more, 0.2)]):
        first = _state(unet)
        version = unet.conv_in.weight._version
    with merger.using([_use(changes, 0.7), _use(more, 0.2)]):
        assert unet.conv_in.weight._version == version, "nothing was written"
    with merger.using([_use(more, 0.2), _use(changes, 0.7)]):
        for name, tensor in unet.state_dict().items():
            assert torch.allclose(tensor, first[name], rtol=1e-5, atol=1e-6)


def test_weights_that_overflow_are_refused_and_put_back() -> None:
    unet = _unet(torch.float16)
    before = _bytes(_state(unet))
    merger = Merger({"unet": unet})
    with merger.using([_use(_changes("lora"), 0.1)]):
        pass
    too_much = merger.using([_use(_changes("full"), 1e6)])
    with pytest.raises(InputError, match=r"adapter some: weights do not stay finite in torch.float16"), too_much:
        pass
    assert _bytes(_state(unet)) == before and merger.kept_bytes == 0


def test_threads_never_see_the_adapters_of_others() -> None:
    unet = _unet()
    merger = Merger({"unet": unet})
    sets = [[], [_use(_changes("lora", 0), 0.5)], [_use(_changes("lora", 1), 0.5)]]
    expected = []
    for uses in sets:
        with merger.using(uses):
            expected.append(unet.conv_in.weight.clone())
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(15):
            with merger.using(sets[number]):
                if not torch.equal(unet.conv_in.weight, expected[number]):
                    wrong.append(number)

    threads = [threading.Thread(target=work, args=(number % 3,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert not torch.equal(expected[1], expected[0]) and not torch.equal(expected[1], expected[2])
