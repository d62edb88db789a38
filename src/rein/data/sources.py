"""Where the art comes from: pinned npm packages, their licences, and how one file is read out of each.

Nothing of a package is ever installed or run: the archive is stored, its sum compared, and one JSON member is read.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rein.errors import DamagedFileError, InputError, ReinError
from rein.files import atomic_file

MAX_MEMBER_BYTES = 192 * 2**20
"""The largest JSON member that is read; the largest there is holds 104 MB."""

PACK_SECONDS = 600


@dataclass(frozen=True)
class Source:
    """One package of art or words, with what its licence asks to be said.

    `integrity` is the registry's own sum of the archive ("sha512-" and base64); `style` is the phrase that captions use
    for its look, None for words.
    """

    package: str
    version: str
    member: str
    integrity: str
    licence: str
    author: str
    attribution: str
    style: str | None = None

    @property
    def archive_name(self) -> str:
        """The file name that `npm pack` gives the archive."""
        return f"{self.package.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


SOURCES: tuple[Source, ...] = (
    Source(
        package="@iconify-json/fluent-emoji",
        version="1.2.7",
        member="package/icons.json",
        integrity="sha512-D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA==",
        licence="MIT",
        author="Microsoft Corporation",
        attribution="Fluent Emoji, copyright Microsoft Corporation, MIT licence; packed by Iconify",
        style="glossy",
    ),
    Source(
        package="@iconify-json/fluent-emoji-flat",
        version="1.2.6",
        member="package/icons.json",
        integrity="sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
        licence="MIT",
        author="Microsoft Corporation",
        attribution="Fluent Emoji Flat, copyright Microsoft Corporation, MIT licence; packed by Iconify",
        style="flat",
    ),
    Source(
        package="@iconify-json/noto",
        version="1.2.9",
        member="package/icons.json",
        integrity="sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        licence="Apache-2.0",
        author="Google Inc",
        attribution="Noto Emoji, copyright Google Inc, Apache License 2.0; packed by Iconify",
        style="cartoon",
    ),
    Source(
        package="@iconify-json/twemoji",
        version="1.2.5",
        member="package/icons.json",
        integrity="sha512-uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
        licence="CC-BY-4.0",
        author="Twitter, Inc and other contributors",
        attribution="Twemoji, copyright Twitter, Inc and other contributors, CC BY 4.0; drawn again at other sizes and "
        "in other colours; packed by Iconify",
        style="sticker",
    ),
    Source(
        package="emojibase-data",
        version="17.0.0",
        member="package/en/data.json",
        integrity="sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
        licence="MIT",
        author="Miles Johnson; names and keywords from Unicode CLDR (Unicode License)",
        attribution="Emojibase data, copyright Miles Johnson, MIT licence; its names and keywords are from the Unicode "
        "Common Locale Data Repository, Unicode License v3. The order and the words of the concepts are made from it",
    ),
)
"""Everything the captioned pictures are made from, for the model card; the last is in the list of concepts already."""

ART_SOURCES: tuple[Source, ...] = tuple(source for source in SOURCES if source.style is not None)
"""The four sets of drawings, each a style."""


def fetch(source: Source, folder: Path) -> Path:
    """The checked archive of `source` in `folder`, downloaded by `npm pack` when it is not there.

    Raises:
        ReinError: npm is missing or fails, or what it brings has another sum.
        DamagedFileError: the archive in the folder has another sum.
    """
    archive = folder / source.archive_name
    if not archive.exists():
        _download(source, archive)
    found = _integrity(archive)
    if found != source.integrity:
        raise DamagedFileError(
            f"{archive} is not {source.package} {source.version}: its sum is {found}, not {source.integrity}; "
            "delete it and run again"
        )
    return archive


def read_json(source: Source, archive: Path) -> dict[str, Any] | list[Any]:
    """The one JSON member of a checked archive.

    Raises:
        DamagedFileError: the archive cannot be read, lacks the member, or the member is too large or not JSON.
    """
    try:
        with tarfile.open(archive, "r:gz") as opened:
            member = opened.getmember(source.member)
            handle = opened.extractfile(member) if member.isfile() else None
            if handle is None or member.size > MAX_MEMBER_BYTES:
                raise DamagedFileError(f"{archive}: {source.member} is not a file of at most {MAX_MEMBER_BYTES} bytes")
            content = json.loads(handle.read(MAX_MEMBER_BYTES))
    except (tarfile.TarError, OSError, EOFError, KeyError, ValueError) as error:
        raise DamagedFileError(f"{archive}: {source.member} cannot be read ({error}); delete the archive") from error
    if not isinstance(content, dict | list):
        raise DamagedFileError(f"{archive}: {source.member} holds a {type(content).__name__}, not a table")
    return content


def _integrity(archive: Path) -> str:
    with archive.open("rb") as handle:
        return "sha512-" + base64.b64encode(hashlib.file_digest(handle, "sha512").digest()).decode()


def _download(source: Source, archive: Path) -> None:
    """`npm pack` into a folder of its own, then into place: an interrupted download leaves nothing."""
    npm = shutil.which("npm")
    wanted = f"{source.package}@{source.version}"
    if npm is None:
        raise ReinError(
            f"the art {wanted} is not in {archive.parent} and npm, which brings it, is not installed: install Node.js, "
            f"or run 'npm pack {wanted}' elsewhere and put {archive.name} there"
        )
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the cache folder {archive.parent} cannot be made: {error.strerror}") from error
    with tempfile.TemporaryDirectory(prefix="rein-art-") as scratch:
        command = [npm, "pack", wanted, "--ignore-scripts", "--silent"]
        try:
            done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=PACK_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise ReinError(f"npm pack {wanted} did not finish in {PACK_SECONDS} s; run again") from error
        packed = Path(scratch) / source.archive_name
        if done.returncode != 0 or not packed.exists():
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
            raise ReinError(f"npm pack {wanted} failed ({lines[-1]}); see that npm can reach its registry, run again")
        with atomic_file(archive) as handle, packed.open("rb") as content:
            shutil.copyfileobj(content, handle)
