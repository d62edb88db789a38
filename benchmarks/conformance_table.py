"""What `benchmarks.conformance` measures of a family, and the page of the documentation that it goes into."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.families import PUBLISHED

STEPS = 10
"""Of the picture that is compared."""

LARGEST_ERROR, LEAST_PSNR = 1e-4, 50.0


@dataclass(frozen=True)
class Row:
    """What was measured of a family.

    Fields:
        parameters: of all networks together.
        text, unet, decoded: largest error beside the peer's largest value.
        picture: PSNR of a 10-step picture in dB.
        folder_equals_file: whether the folder and the single file gave the same weights.
        names_read: whether diffusers' converters made the peer's weights of the single file.
        round_trip: whether file -> model -> file gave the same bytes for every tensor.
    """

    family: str
    full: bool
    parameters: int
    text: float
    unet: float
    decoded: float
    picture: float
    folder_equals_file: bool
    names_read: bool
    round_trip: bool

    @property
    def passed(self) -> bool:
        """Whether everything is within its bound."""
        close = max(self.text, self.unet, self.decoded) <= LARGEST_ERROR and self.picture >= LEAST_PSNR
        return close and self.folder_equals_file and self.names_read and self.round_trip


HEAD = ("family", "size", "parameters", "text", "U-Net", "decoded", "picture", "folder = file", "names", "round trip")


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    for row in rows:
        errors = [f"{value:.1e}" for value in (row.text, row.unet, row.decoded)]
        checks = ["yes" if good else "NO" for good in (row.folder_equals_file, row.names_read, row.round_trip)]
        size = "full" if row.full else "shrunken"
        cells = [row.family, size, f"{row.parameters:,}", *errors, f"{row.picture:.1f} dB", *checks]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


INTRODUCTION = f"""# Conformance

Each family with seeded random weights, beside diffusers and transformers, in float32 on the CPU.

- `text`, `U-Net`, `decoded`: the largest error beside the largest value, at most {LARGEST_ERROR:g}.
- `picture`: the PSNR of a {STEPS}-step picture, at least {LEAST_PSNR:g} dB; rounding to 8 bits alone leaves 58.9.
- `folder = file`: the peers' folder and the single file that Rein makes of it load to the same weights.
- `names`: diffusers' converters read that file to the peers' weights.
- `round trip`: that file, loaded and written again, is equal to the last byte of every tensor.

Made by `python -m benchmarks.conformance --write docs/conformance.md`; rows at full size by adding
`--full --family NAME`, which keeps the other rows. At full size each step is a process of its own, so that one model at
most is in memory: SDXL takes 14 GiB of it, 28 GB of disk and 15 minutes on one core.

"""


def write_table(path: Path, rows: list[Row]) -> None:
    """Put rows into the file's table; earlier rows of other families or sizes stay."""
    store = path.with_suffix(".json")
    known = (
        {(row["family"], row["full"]): Row(**row) for row in json.loads(store.read_text())} if store.exists() else {}
    )
    known |= {(row.family, row.full): row for row in rows}
    names = list(PUBLISHED)
    ordered = sorted(known.values(), key=lambda row: (not row.full, names.index(row.family)))
    store.write_text(json.dumps([asdict(row) for row in ordered], indent=1) + "\n")
    path.write_text(INTRODUCTION + table(ordered) + "\n", encoding="utf-8")
