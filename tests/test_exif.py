"""The EXIF block: byte for byte as the standard lays it out, and read back by Pillow."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from rein.exif import LARGEST_IN_JPEG, exif_block, exif_texts
from rein.version import __version__

INFOTEXT = "a naïve 猫\nNegative prompt: blurry\nSteps: 20, Seed: 7"


def read(block: bytes, file_format: str = "JPEG") -> Image.Exif:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, file_format, exif=block)
    return Image.open(buffer).getexif()


def fields(block: bytes, start: int) -> dict[int, tuple[int, bytes]]:
    """Type and value of each field of a directory, by its number."""
    data = block.removeprefix(b"Exif\0\0")
    found = {}
    (count,) = struct.unpack_from(">H", data, start)
    for row in range(count):
        number, kind, length, place = struct.unpack_from(">HHLL", data, start + 2 + 12 * row)
        value = data[place : place + length] if kind != 4 else struct.pack(">L", place)
        found[number] = (kind, value)
    return found


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP"])
@pytest.mark.parametrize(
    "texts", [{}, {"parameters": INFOTEXT}, {"rein": '{"a": "猫"}'}, {"parameters": "", "rein": ""}]
)
def test_texts_come_back(file_format: str, texts: dict[str, str]) -> None:
    block, left = exif_block(texts)
    assert left == ()
    exif = read(block, file_format)
    assert exif_texts(exif) == texts
    assert exif[ExifTags.Base.Software] == f"rein {__version__}"


def test_the_comment_has_the_type_that_other_programs_look_for() -> None:
    """Of type 7 (undefined) with its code first; Pillow would write type 1, which the web UI's reader cannot take."""
    block, _ = exif_block({"parameters": INFOTEXT, "rein": "{}"})
    assert block.startswith(b"Exif\0\0MM\0*")
    first = fields(block, 8)
    (place,) = struct.unpack(">L", first[0x8769][1])
    inner = fields(block, place)
    assert inner[0x9286] == (7, b"UNICODE\0" + INFOTEXT.encode("utf-16-be"))
    assert inner[0x927C] == (7, b"Rein\0{}")
    assert sorted(inner) == list(inner), "fields stand in the order of their numbers"


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_text_comes_back(infotext: str, record: str) -> None:
    clean = [text.encode("utf-8", "replace").decode("utf-8") for text in (infotext, record)]
    assert exif_texts(read(exif_block({"parameters": infotext, "rein": record})[0])) == {
        "parameters": clean[0],
        "rein": clean[1],
    }


@pytest.mark.parametrize(
    ("infotext", "record", "left"),
    [(100, 100, ()), (100, 70_000, ("rein",)), (40_000, 100, ("parameters", "rein")), (32_000, 2_000, ("rein",))],
)
def test_what_a_jpeg_has_no_room_for_is_named(infotext: int, record: int, left: tuple[str, ...]) -> None:
    texts: Mapping[str, str] = {"parameters": "x" * infotext, "rein": "y" * record, "other": "z"}
    block, missing = exif_block(texts, LARGEST_IN_JPEG)
    assert missing == (*left, "other")
    assert len(block) <= LARGEST_IN_JPEG
    kept = {name: text for name, text in texts.items() if name not in missing}
    assert exif_texts(read(block)) == kept
    assert exif_block(texts)[1] == ("other",)


@pytest.mark.parametrize(
    ("comment", "text"),
    [
        (b"UNICODE\0" + INFOTEXT.encode("utf-16-be"), INFOTEXT),
        (b"ASCII\0\0\0Steps: 3", "Steps: 3"),
        (b"\0" * 8 + INFOTEXT.encode(), INFOTEXT),
        (b"JIS\0\0\0\0\0x", None),
        (b"short", None),
    ],
)
def test_comments_of_others(comment: bytes, text: str | None) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    assert exif_texts(read(exif.tobytes())) == ({} if text is None else {"parameters": text})


def test_the_note_of_another_program_is_not_ours() -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = b"Nikon\0{}"
    assert exif_texts(read(exif.tobytes())) == {}
