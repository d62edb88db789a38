"""A small set of art of our own, packed as the real one is: two styles of sixteen simple drawings."""

import base64
import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from rein.data.options import ArtOptions
from rein.data.sources import Source

SHAPES = {
    "disc": '<circle cx="16" cy="16" r="12" fill="{fill}"/>',
    "box": '<rect x="5" y="5" width="22" height="22" fill="{fill}"/>',
    "bar": '<rect x="2" y="12" width="28" height="8" fill="{fill}"/>',
    "post": '<rect x="13" y="2" width="6" height="28" fill="{fill}"/>',
    "hill": '<path d="M2 28 L16 6 L30 28 Z" fill="{fill}"/>',
    "kite": '<path d="M16 2 L28 16 L16 30 L4 16 Z" fill="{fill}"/>',
    "wing": '<path d="M2 4 H30 L2 28 Z" fill="{fill}"/>',
    "boat": '<path d="M2 16 H30 L24 26 H8 Z" fill="{fill}"/><rect x="15" y="4" width="2" height="12" fill="#553311"/>',
    "tree": '<circle cx="16" cy="11" r="9" fill="{fill}"/><rect x="14" y="19" width="4" height="11" fill="#664422"/>',
    "eye": '<ellipse cx="16" cy="16" rx="14" ry="8" fill="{fill}"/><circle cx="16" cy="16" r="4" fill="#111111"/>',
    "dots": '<circle cx="8" cy="16" r="6" fill="{fill}"/><circle cx="24" cy="16" r="6" fill="{fill}"/>',
    "arch": '<path d="M4 28 V16 A12 12 0 0 1 28 16 V28 H21 V16 A5 5 0 0 0 11 16 V28 Z" fill="{fill}"/>',
    "plus": '<path d="M12 3 H20 V12 H29 V20 H20 V29 H12 V20 H3 V12 H12 Z" fill="{fill}"/>',
    "step": '<path d="M3 29 V20 H12 V12 H21 V3 H29 V29 Z" fill="{fill}"/>',
    "leaf": '<path d="M4 28 C4 10 14 4 28 4 C28 18 20 28 4 28 Z" fill="{fill}"/>',
    "flag": '<path d="M4 2 H7 V30 H4 Z" fill="#444444"/><path d="M7 3 H28 V17 H7 Z" fill="{fill}"/>',
}
FILLS = {"plain": ("#d83a3a", "#c8342f"), "bright": ("#ff5544", "#f04a40")}
CONCEPTS = """# sixteen drawings
disc | disc | coin
box | box | crate
bar | bar
post | post
hill | hill
kite | kite
wing | wing
boat | boat | ship
tree | tree
eye | red eye | eye
dots | ~dots | pair of dots
arch | arch
plus | plus sign
step | ~stairs
leaf | leaf
flag | flag | banner | fixed natural
"""


def icon_json(style: str, **changes: Any) -> dict[str, Any]:
    """An Iconify table; half of the drawings are a shade darker, and `alias` is another name of the disc."""
    fills = FILLS[style]
    icons = {name: {"body": body.format(fill=fills[i % 2])} for i, (name, body) in enumerate(SHAPES.items())}
    aliases = {"alias": {"parent": "disc"}, "mirrored-wing": {"parent": "wing", "hFlip": True}}
    return {"prefix": style, "icons": icons, "aliases": aliases, "width": 32, "height": 32} | changes


def archive(member: str, content: bytes) -> bytes:
    """A gzipped tar with one file, the same bytes each time."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as opened:
        info = tarfile.TarInfo(member)
        info.size = len(content)
        opened.addfile(info, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), mtime=0)


def source(style: str, packed: bytes) -> Source:
    """The source whose archive is `packed`."""
    return Source(
        package=f"@drawn/{style}",
        version="1.0.0",
        member="package/icons.json",
        integrity="sha512-" + base64.b64encode(hashlib.sha512(packed).digest()).decode(),
        licence="Apache-2.0",
        author="us",
        attribution="drawn for the tests",
        style=style,
    )


def stored(folder: Path, style: str, **changes: Any) -> Source:
    """Pack the drawings of a style into `folder` and describe them."""
    packed = archive("package/icons.json", json.dumps(icon_json(style, **changes)).encode())
    described = source(style, packed)
    (folder / described.archive_name).write_bytes(packed)
    return described


def drawn_options(folder: Path, **changes: Any) -> ArtOptions:
    """Options for the sixteen drawings in two styles at 32 px, everything stored in `folder`."""
    concepts = folder / "concepts.txt"
    concepts.write_text(CONCEPTS, encoding="utf-8")
    sources = tuple(stored(folder, style) for style in FILLS)
    chosen: dict[str, Any] = {
        "cache_folder": folder,
        "concept_count": 16,
        "size": 32,
        "styles": tuple(FILLS),
        "concepts": concepts,
        "sources": sources,
        "length": 50,
        "held_out_share": 0.25,
    }
    return ArtOptions(**(chosen | changes))
