"""What a single file or a diffusers folder holds, from names, shapes and texts.

The numbers are read only to hash, and those of an adapter to see that they can be used.

`rein.formats.inspect` looks at Rein's own folders.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rein.errors import DamagedFileError, InputError
from rein.formats.detect import Detection, detect
from rein.formats.diffusers_folder import folder_names, open_parts, read_diffusers_spec
from rein.formats.embeddings import describe
from rein.formats.fill import Fit, listed
from rein.formats.folder import combined_hash, file_digest
from rein.formats.inspect_adapter import AdapterReport, families, inspect_adapter
from rein.formats.placed import PlacedTensor
from rein.formats.single import PART_TITLES, LoadOptions, fitted
from rein.formats.weights import open_weights
from rein.nn.specs import VARIANTS, ModelSpec

SHORT = 10
"""Digits of the SHA-256 that stand for a model in the settings of pictures, as the AUTOMATIC1111 web UI has it."""


@dataclass(frozen=True)
class FileReport:
    """A file or folder as it was found.

    Fields:
        kind: as `rein.formats.detect.Detection`; "model" for a diffusers folder.
        container: what kind of file it is: "safetensors", "torch zip", "torch legacy", "diffusers folder".
        spec: the family of a model, None where it is none that Rein draws with.
        made_for: the family that an adapter or a learned word goes with; None where it is none that Rein knows.
        settled: whether the file tells what the U-Net predicts; loading asks the network itself if not.
        parts: titles of the parts that are there.
        types, parameters, tensors, bytes: of all tensors; types by the format's names, the most frequent first.
        fit: what is missing, extra or of another shape.
        problems: what keeps it from being used; empty for a sound model or adapter and for files of other kinds.
        scaled: how many of its tensors are 8-bit numbers with a scale beside them.
        adapter: what an adapter does.
        vectors, widths: of a learned word, how many vectors it has, and their width for each text tower.
        sha256: of the file, or of all weight files of a folder together; "" where it was not wanted.
    """

    path: Path
    kind: str
    container: str
    spec: ModelSpec | None
    settled: bool
    parts: tuple[str, ...]
    types: tuple[str, ...]
    parameters: int
    tensors: int
    bytes: int
    fit: Fit = field(default_factory=Fit)
    problems: tuple[str, ...] = ()
    note: str = ""
    ema: bool = False
    ema_only: bool = False
    sha256: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    scaled: int = 0
    adapter: AdapterReport | None = None
    made_for: ModelSpec | None = None
    vectors: int = 0
    widths: tuple[int, ...] = ()

    @property
    def family(self) -> str:
        """The name of the family of a model, or of those that it is for; "" for none."""
        spec = self.spec or self.made_for
        return "" if spec is None else spec.name

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        spec, fit = self.spec, self.fit
        named = {"missing": fit.missing, "mismatched": fit.mismatched, "extra": fit.extra, "not_needed": fit.not_needed}
        return {
            "path": str(self.path),
            "kind": self.kind,
            "container": self.container,
            "family": self.family or None,
            "prediction": None if spec is None else spec.prediction,
            "prediction_settled": self.settled,
            "size": None if spec is None else spec.native_size,
            "parts": list(self.parts),
            "types": list(self.types),
            "parameters": self.parameters,
            "tensors": self.tensors,
            "scaled": self.scaled,
            "bytes": self.bytes,
            "sha256": self.sha256 or None,
            "short_hash": self.sha256[:SHORT] or None,
            "ema": self.ema,
            "ema_only": self.ema_only,
            "adapter": None if self.adapter is None else self.adapter.plain(),
            "embedding": {"vectors": self.vectors, "widths": list(self.widths)} if self.vectors else None,
            **{name: {"count": len(names), "names": list(names)} for name, names in named.items()},
            "note": self.note or None,
            "problems": list(self.problems),
            "metadata": dict(self.metadata),
        }


def inspect_single(path: Path, hashed: bool = True) -> FileReport:
    """Look at one file. What keeps a model from loading is told, not raised.

    Raises:
        InputError, DamagedFileError: it is no file of weights, as `rein.formats.weights.open_weights`.
    """
    weights = open_weights(path)
    found = detect(weights.infos, weights.metadata)
    fit = Fit()
    if found.spec is not None:
        _, fit = fitted(path, weights, found, found.spec, LoadOptions())
    report = FileReport(
        path=path,
        kind=found.kind,
        container=weights.container,
        spec=found.spec,
        settled=found.settled,
        parts=tuple(PART_TITLES[part] for part in found.layout),
        bytes=path.stat().st_size,
        fit=fit,
        problems=_problems(found, fit),
        note=found.note,
        ema=found.ema,
        ema_only=found.ema_only,
        sha256=file_digest(path) if hashed else "",
        metadata=weights.metadata,
        scaled=len(weights.scales),
        **_counted(weights.infos),
    )
    if found.kind == "adapter":
        return _with_adapter(report, inspect_adapter(weights))
    return _with_word(report, weights.infos) if found.kind == "embedding" else report


def _with_adapter(report: FileReport, adapter: AdapterReport) -> FileReport:
    problems = (adapter.problem,) if adapter.problem else ()
    return replace(report, adapter=adapter, made_for=adapter.spec, note=adapter.note, problems=problems)


def _with_word(report: FileReport, infos: Mapping[str, PlacedTensor]) -> FileReport:
    vectors, widths = describe(infos)
    rows = families(VARIANTS.values())
    row = next((row for row in rows if tuple(tower.width for tower in row.towers) == widths), None)
    return replace(report, vectors=vectors, widths=widths, made_for=row)


def _problems(found: Detection, fit: Fit) -> tuple[str, ...]:
    if found.kind not in ("model", "unet"):
        return ()
    absent = [PART_TITLES[part] for part in found.absent] if found.kind == "model" else []
    problems = [found.note] if found.spec is None else []
    problems += [f"it lacks the {' and the '.join(absent)}"] if absent else []
    problems += [f"it lacks {listed(fit.missing)}"] if fit.missing else []
    return (*problems, *([f"of another shape: {listed(fit.mismatched)}"] if fit.mismatched else []))


def _counted(infos: Mapping[str, PlacedTensor]) -> dict[str, Any]:
    types = Counter(info.dtype for info in infos.values())
    parameters = sum(info.parameters for info in infos.values())
    return {
        "types": tuple(name for name, _ in types.most_common()),
        "parameters": parameters,
        "tensors": len(infos),
    }


def inspect_diffusers(folder: Path, hashed: bool = True) -> FileReport:
    """Look at a diffusers folder. What keeps it from loading is told, not raised.

    Raises:
        InputError, DamagedFileError: its configurations do not describe a model.
    """
    spec = read_diffusers_spec(folder)
    infos: dict[str, PlacedTensor] = {}
    files: dict[str, Path] = {}
    parts, problems, fits = [], [], []
    try:
        for opened in open_parts(folder, spec, LoadOptions()):
            place = opened.folder.name
            infos |= {f"{place}/{name}": info for name, info in opened.weights.infos.items()}
            files |= opened.files
            parts.append(PART_TITLES[opened.part])
            fits.append((place, opened.fit))
    except (InputError, DamagedFileError) as error:
        problems.append(str(error))
    names = {
        what: tuple(f"{place}/{name}" for place, fit in fits for name in getattr(fit, what))
        for what in ("missing", "mismatched", "not_needed", "extra")
    }
    fit = Fit(**names)
    problems += [f"{what}: {listed(names[what])}" for what in ("missing", "mismatched") if names[what]]
    return FileReport(
        path=folder,
        kind="model",
        container="diffusers folder",
        spec=spec,
        settled=True,
        parts=tuple(parts),
        bytes=sum(path.stat().st_size for path in files.values()),
        fit=fit,
        problems=tuple(problems),
        note="" if len(parts) == len(folder_names(folder)) else "not all of its parts could be looked at",
        sha256=combined_hash({name: file_digest(path) for name, path in files.items()}) if hashed else "",
        **_counted(infos),
    )
