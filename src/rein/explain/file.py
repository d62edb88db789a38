"""Explanations as files: `NAME.safetensors` with the tensors, `NAME.json` with the rest. Schema: docs/explain.md.

The JSON file is written last and names the SHA-256 of the other, so that two files that do not belong together, or one
that was cut short, are noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rein.errors import DamagedFileError, InputError, quoted
from rein.explain.trace import Explanation
from rein.files import atomic_file, parse_json
from rein.formats.tensors import read_header, read_tensors, write_tensors
from rein.pipeline.infotext import manifest

FORMAT, VERSION = "rein-trace", 1
STEP_TENSORS = ("before", "latents", "denoised", "wanted", "unwanted")

_JSON_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Trace:
    """A trace read from its files: `facts` is the JSON file's object, `tensors` are by name."""

    path: Path
    facts: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The numbers of every step."""
        listed: list[dict[str, Any]] = self.facts["steps"]
        return listed

    def step(self, index: int) -> dict[str, Tensor]:
        """The tensors of a step by short name; empty for a step whose tensors were not kept."""
        begin = f"step.{index:04}."
        return {name.removeprefix(begin): value for name, value in self.tensors.items() if name.startswith(begin)}


def trace_paths(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """The two files of a trace: of tensors, and of the rest. The name may be given with either ending or with none."""
    whole = Path(path)
    if not whole.name:
        raise InputError(f"{quoted(os.fspath(path))} is no name for a trace: give one such as apple.trace")
    stem = whole.with_suffix("") if whole.suffix in (".json", ".safetensors") else whole
    return stem.with_name(f"{stem.name}.safetensors"), stem.with_name(f"{stem.name}.json")


def write_trace(explanation: Explanation, path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write a finished explanation; returns the two files.

    Raises:
        OutputError: one cannot be written.
        ReinError: the picture is not finished.
    """
    tensor_path, json_path = trace_paths(path)
    facts = trace_facts(explanation)

    def described(digest: str) -> bytes:
        whole = facts | {"tensors": {"file": tensor_path.name, "sha256": digest}}
        return json.dumps(whole, indent=1, ensure_ascii=False).encode("utf-8", "replace") + b"\n"

    with atomic_file(json_path) as handle:
        # Written once before the tensors, with a digest as long as theirs: on a full disk this fails first, and what is
        # written over it afterwards needs no more room. So there is never one file without the other.
        handle.write(described("0" * 64))
        handle.flush()
        write_tensors(tensor_path, trace_tensors(explanation), {"format": FORMAT})
        handle.seek(0)
        handle.write(described(_digest(tensor_path)))
    return tensor_path, json_path


def trace_tensors(explanation: Explanation) -> dict[str, Tensor]:
    """Every tensor of an explanation by the name that it has in the file."""
    tensors = {"sigmas": explanation.sigmas.float(), "noise": explanation.noise}
    for number, tower in enumerate(explanation.words.towers):
        tensors |= {f"tower.{number}.{name}": getattr(tower, name) for name in ("hidden", "attention", "pooled")}
    for record in explanation.kept:
        for name in STEP_TENSORS:
            value = getattr(record, name)
            if value is not None:
                tensors[f"step.{record.index:04}.{name}"] = value
    for part, maps in enumerate(explanation.maps):
        begin = f"part.{part}.heat" if part else "heat"
        if maps.filled:
            tensors |= {f"{begin}.layer.{name}": maps.layer(name) for name in maps.layers}
            tensors[f"{begin}.steps"] = maps.by_step()
    begun = explanation.beginning
    given = {"start": begun.latents, "mask": begun.mask, "extra": begun.extra}
    tensors |= {f"given.{name}": value for name, value in given.items() if value is not None}
    return {name: value.contiguous() for name, value in tensors.items()}


def trace_facts(explanation: Explanation) -> dict[str, Any]:
    """Everything else, as JSON values."""
    words, result, begun = explanation.words, explanation.result, explanation.beginning
    times, sigmas = explanation.curve
    return {
        "format": FORMAT,
        "version": VERSION,
        **manifest(result.single(0), result.provenance, result.notes.get(result.seeds[0], ())),
        "words": {
            "prompt": words.prompt,
            "negative_prompt": words.negative_prompt,
            "readings": [asdict(reading) for reading in words.readings],
            "words": list(words.words),
            "tokens": [asdict(token) for token in words.tokens],
            "negative_ids": list(words.negative_ids),
            "windows": words.windows,
            "length": words.length,
            "seconds": words.seconds,
        },
        "groups": [asdict(group) for group in words.groups()],
        "parts": [
            {
                "words": list(part.words),
                "tokens": [asdict(token) for token in part.tokens],
                "groups": [asdict(group) for group in part.groups()],
            }
            for part in words.parts[1:]
        ],
        "given": {
            "under_noise": begun.under_noise,
            "left_out": list(begun.left_out),
            "extra": begun.extra_kind,
            "adapters": [asdict(change) for change in explanation.adapters],
        },
        "layers": explanation.heat_maps.layers,
        "schedule": {"timesteps": times, "sigmas": sigmas},
        "steps": [asdict(step) for step in explanation.numbers],
        "kept": [record.index for record in explanation.kept],
        "seconds": result.seconds,
    }


def read_trace(path: str | os.PathLike[str]) -> Trace:
    """Read what `write_trace` wrote.

    Raises:
        InputError: there is no such file, or it is of another version or no trace.
        DamagedFileError: a file is cut short, or the two do not belong together.
    """
    tensor_path, json_path = trace_paths(path)
    facts = _facts(json_path)
    listed = facts["tensors"]
    if not tensor_path.exists():
        raise InputError(f"there is no file {tensor_path}: a trace is two files, keep {listed['file']} beside its JSON")
    read_header(tensor_path)
    if _digest(tensor_path) != listed["sha256"]:
        raise DamagedFileError(f"{tensor_path} does not belong to {json_path}, or was changed: trace the picture again")
    return Trace(json_path, facts, read_tensors(tensor_path))


def _facts(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _JSON_BYTES:
            raise InputError(f"{path} is no trace: it has over {_JSON_BYTES:,} bytes")
        content = parse_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"there is no trace {path}; make one with: rein explain PROMPT --trace FILE") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise DamagedFileError(f"{path} is not JSON, or was cut short: {str(error)[:80]}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is not a trace of `rein explain --trace`")
    if content.get("version") != VERSION:
        raise InputError(f"{path} is a trace of version {quoted(content.get('version'))}: this Rein reads {VERSION}")
    _check(content, path)
    return content


def _check(content: dict[str, Any], path: Path) -> None:
    """What is read later must be there."""
    tensors, steps, request = content.get("tensors"), content.get("steps"), content.get("request")
    whole = isinstance(tensors, dict) and {"file", "sha256"} <= tensors.keys() and isinstance(request, dict)
    numbers = ("index", "sigma", "next_sigma", "seconds")
    good = isinstance(steps, list) and all(
        isinstance(s, dict) and all(_number(s.get(n)) for n in numbers) for s in steps
    )
    if not whole or not good or not steps:
        raise DamagedFileError(f"{path} is a trace with parts missing: trace the picture again")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def relative_difference(one: Tensor, other: Tensor) -> float:
    """Length of the difference relative to the mean length; 0 for equal tensors, infinite for other shapes."""
    if one.shape != other.shape:
        return float("inf")
    lengths = (torch.linalg.vector_norm(tensor.double()) for tensor in (one, other))
    mean = float(sum(lengths, torch.zeros((), dtype=torch.float64))) / 2
    apart = float(torch.linalg.vector_norm(one.double() - other.double()))
    return apart / mean if mean > 0 else 0.0
