"""What `rein generate --plan` prints: the memory and time that a request will take, and what to change."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rein.pipeline.model import Model
    from rein.pipeline.plan import Plan
    from rein.pipeline.request import Request

_NOT_FITTING = 1


def tell_plan(model: Model, request: Request, as_json: bool) -> None:
    """Plan a request and print it; ends the program with exit code 1 where it does not fit.

    Raises:
        InputError: the request does not suit the model.
    """
    from rein.pipeline.plan import plan

    found = plan(model.parts, request)
    print(json.dumps(_object(found), indent=1) if as_json else "\n".join(_lines(found)), flush=True)
    if not found.fits:
        raise typer.Exit(_NOT_FITTING)


def _lines(found: Plan) -> list[str]:
    wide = max(len(stage.name) for stage in found.stages)
    lines = [
        f"{stage.name:<{wide}}  {_time(stage.seconds):>9}  {_size(stage.bytes) if stage.bytes else '':>9}".rstrip()
        for stage in found.stages
    ]
    there = "" if found.available is None else f" of {_size(found.available)}"
    if not found.fits:
        return [*lines, f"does not fit: {_size(found.bytes)}{there}", *(f"change: {entry}" for entry in found.advice)]
    measured = "" if found.measured is None else f", measured at {found.measured[0]} x {found.measured[1]}"
    return [*lines, f"in all: {_time(found.seconds)}, {_size(found.bytes)}{there}{measured}"]


def _object(found: Plan) -> dict[str, object]:
    return {
        "seconds": found.seconds,
        "bytes": found.bytes,
        "available": found.available,
        "fits": found.fits,
        "measured": found.measured,
        "advice": list(found.advice),
        "stages": [{"name": stage.name, "seconds": stage.seconds, "bytes": stage.bytes} for stage in found.stages],
    }


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
