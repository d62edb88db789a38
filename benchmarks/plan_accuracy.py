"""How well `rein generate --plan` predicts: memory and seconds beside what the same request then took.

    python -m benchmarks.plan_accuracy [--model NAME|PATH ...]

Each case runs in a process of its own, which plans first and draws then; its peak memory is Linux's figure.
Printed: a row for each case, and the largest error of each kind.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from tests.pipeline.small import save_small

STEPS = 20


def alone(model: str, side: int | None, steps: int) -> dict[str, float]:
    """Predictions and truth of one case, in this process."""
    from rein.pipeline.model import load
    from rein.pipeline.plan import plan
    from rein.pipeline.request import Request

    loaded = load(model, "cpu", "float32")
    request = Request(prompt="a red apple, flat style", seed=3, steps=steps, width=side, height=side)
    found = plan(loaded.parts, request)
    began = time.perf_counter()
    loaded.generate(request)
    seconds = time.perf_counter() - began
    # Not that of `getrusage`, which counts what the process was before it became this program.
    [most] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return {
        "seconds": found.seconds or 0.0,
        "spent": seconds,
        "bytes": found.bytes,
        "most": int(most.split()[1]) * 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", nargs="*", help="models at their native size; by default pocket and two tiny ones")
    parser.add_argument("--alone", nargs=3, metavar=("MODEL", "SIDE", "STEPS"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=Path("out/plan"), help="where the tiny models are put")
    options = parser.parse_args()
    if options.alone:
        model, side, steps = options.alone
        print(json.dumps(alone(model, int(side) or None, int(steps))))
        return
    cases: list[tuple[str, int]] = [(model, 0) for model in options.model or ()]
    if not cases:
        tiny = {family: str(save_small(options.folder / family, family)) for family in ("sd1", "sdxl")}
        cases = [("pocket", 0), ("pocket", 256), (tiny["sd1"], 256), (tiny["sd1"], 512), (tiny["sdxl"], 256)]
    print(
        f"{'model':<10} {'side':>5} {'planned':>9} {'took':>9} {'error':>6}   {'planned':>9} {'peak':>9} {'error':>6}"
    )
    worst = {"seconds": 0.0, "bytes": 0.0}
    for model, side in cases:
        command = [sys.executable, "-m", "benchmarks.plan_accuracy", "--alone", model, str(side), str(STEPS)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        errors = {name: found[name] / found[real] - 1 for name, real in (("seconds", "spent"), ("bytes", "most"))}
        worst = {name: max(worst[name], abs(error)) for name, error in errors.items()}
        print(
            f"{Path(model).name:<10} {side or 'own':>5} {found['seconds']:>7.2f} s {found['spent']:>7.2f} s "
            f"{errors['seconds']:>+6.0%}   {found['bytes'] / 1e6:>6.0f} MB {found['most'] / 1e6:>6.0f} MB "
            f"{errors['bytes']:>+6.0%}"
        )
    print(f"largest error: {worst['seconds']:.0%} of seconds, {worst['bytes']:.0%} of memory")


if __name__ == "__main__":
    main()
