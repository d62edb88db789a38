"""What a plan says, against what the work then takes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rein.errors import InputError
from rein.pipeline.model import Model
from rein.pipeline.plan import free_bytes, held_bytes, plan
from rein.pipeline.request import Request
from tests.cli.conftest import ENVIRONMENT
from tests.pipeline.conftest import Loader

REQUEST = Request(prompt="a red apple", seed=3, steps=8, width=64, height=64)

ALONE = """
import json, sys
from pathlib import Path
from rein.pipeline.model import load
from rein.pipeline.plan import plan
from rein.pipeline.request import Request
model = load(sys.argv[1], "cpu", "float32")
request = Request(prompt="a red apple", seed=3, steps=2, width=int(sys.argv[2]), height=int(sys.argv[2]))
found = plan(model.parts, request)
model.generate(request)
# Not that of `getrusage`, which counts what the process was before it became this program.
[most] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
print(json.dumps({"bytes": found.bytes, "most": int(most.split()[1]) * 1024}))
"""


def compared(folder: Path, side: int) -> dict[str, float]:
    """Prediction and truth, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(folder), str(side)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="peak memory is read as Linux tells it")
def test_memory_is_predicted_within_a_fifth(tiny_model_folder: Path) -> None:
    found = compared(tiny_model_folder, 1024)
    assert found["bytes"] == pytest.approx(found["most"], rel=0.2)


def test_a_plan_tells_the_parts_of_the_work(small_model: Loader) -> None:
    found = plan(small_model("sd1").parts, REQUEST.replace(count=3))
    assert [stage.name for stage in found.stages] == ["words", "8 steps at 64 x 64", "decode 64 x 64"]
    assert all(stage.seconds is not None and stage.seconds > 0 for stage in found.stages)
    assert found.seconds == pytest.approx(
        found.stages[0].seconds + 3 * (found.stages[1].seconds + found.stages[2].seconds)  # type: ignore[operator]
    )
    assert found.fits and found.advice == () and found.measured == (64, 64)


def test_a_second_pass_counts_at_its_size(small_model: Loader) -> None:
    model = small_model("sd1")
    found = plan(model.parts, REQUEST.replace(hires_scale=2.0, hires_steps=6, hires_strength=0.5))
    assert [stage.name for stage in found.stages][1:] == [
        "8 steps at 64 x 64",
        "decode 64 x 64",
        "encode 128 x 128",
        "3 steps at 128 x 128",
        "decode 128 x 128",
    ]
    assert found.bytes > plan(model.parts, REQUEST).bytes


def test_what_does_not_fit_is_advised_and_fits_then(small_model: Loader) -> None:
    model = small_model("sd1")
    large = REQUEST.replace(width=1024, height=1024)
    whole = plan(model.parts, large.replace(steps=1, width=64, height=64))
    room = whole.bytes + 40_000_000
    found = plan(model.parts, large, available=room)
    assert not found.fits and found.seconds is None and found.measured is None
    options = [dict(_options(entry)) for entry in found.advice]
    assert options and all(option for option in options)
    for option in options:
        changed = large.replace(**option)
        assert plan(model.parts, changed, available=room).bytes <= room + 20_000_000  # the process grows as it works


def _options(text: str) -> list[tuple[str, Any]]:
    words = text.split()
    if words[0] == "--set":
        name, _, value = words[1].partition("=")
        return [(name, int(value))]
    return [(name.removeprefix("--"), int(value)) for name, value in zip(words[::2], words[1::2], strict=True)]


def test_a_machine_that_is_full_is_told_so(pocket: Model) -> None:
    found = plan(pocket.parts, REQUEST, available=1)
    assert found.advice[-1].startswith("a smaller model")


def test_a_request_that_does_not_suit_the_model_is_refused(pocket: Model) -> None:
    with pytest.raises(InputError, match="width is 68"):
        plan(pocket.parts, REQUEST.replace(width=68))


def test_memory_of_this_machine() -> None:
    assert held_bytes(_cpu()) > 50_000_000
    free = free_bytes(_cpu())
    assert free is None or free > 0


def _cpu() -> Any:
    import torch

    return torch.device("cpu")


def test_planning_draws_nothing_that_is_kept_and_is_quick(pocket: Model) -> None:
    began = time.process_time()
    plan(pocket.parts, REQUEST.replace(steps=1000))
    assert time.process_time() - began < 20
