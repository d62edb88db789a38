"""Captions beside pictures, in the encodings and tables that people have them in."""

from __future__ import annotations

import codecs
import json

import pytest

from rein.data.caption_files import captions_of, check_encoding, decoded, read_table
from rein.errors import DamagedFileError, InputError

TEXT = "ein Apfel für Käthe"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
    ],
)
def test_marks_tell_the_encoding(content: bytes) -> None:
    assert decoded(content, "a.txt") == TEXT


def test_other_encodings_are_asked_for() -> None:
    assert decoded(TEXT.encode("cp1252"), "a.txt", "cp1252") == TEXT
    with pytest.raises(DamagedFileError, match=r"a\.txt is not utf-8 text \(byte 11\).*--encoding"):
        decoded(TEXT.encode("cp1252"), "a.txt")
    with pytest.raises(DamagedFileError, match="zero characters"):
        decoded(TEXT.encode("utf-16-le"), "a.txt", "latin-1")
    assert check_encoding("UTF8") == "utf-8"
    for wrong in ("utf-9", "rot13", "base64"):
        with pytest.raises(InputError, match="unknown encoding"):
            check_encoding(wrong)


def test_each_line_is_a_caption() -> None:
    assert captions_of("  a cat \n\n a  dog\r\na cat\n") == ("a cat", "a dog")
    assert captions_of(" \n") == ()
    assert len(captions_of("x" * 50_000)[0]) == 10_000


def test_json_lines() -> None:
    rows = [
        {"file_name": "a.png", "text": "a cat"},
        {"file_name": "sub/b.png", "caption": ["a dog", "an animal"], "mask": "m/b.png", "other": 3},
        {"file_name": "a.png", "text": "an animal"},
    ]
    table = read_table("\n".join(map(json.dumps, rows)).encode(), "in/metadata.jsonl")
    assert table.problems == []
    assert table.rows["in/a.png"].captions == ("a cat", "an animal")
    assert table.rows["in/sub/b.png"].captions == ("a dog", "an animal")
    assert table.rows["in/sub/b.png"].mask == "in/m/b.png"


def test_csv() -> None:
    content = 'file_name,id,text\na.png,1,"a cat, asleep"\nb.png,2,\n'.encode("utf-8-sig")
    table = read_table(content, "metadata.csv")
    assert table.rows["a.png"].captions == ("a cat, asleep",)
    assert table.rows["b.png"].captions == ()
    named = read_table(b"file_name,words,text\na.png,one,two\n", "metadata.csv", column="words")
    assert named.rows["a.png"].captions == ("one",)


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"", b"file_name,id\na.png,1\n"])
def test_a_csv_without_its_columns_is_refused(content: bytes) -> None:
    with pytest.raises(DamagedFileError, match="needs a first line with the columns file_name and"):
        read_table(content, "metadata.csv")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[1]", "not a table"),
        ('{"text": "a"}', "no file_name"),
        ('{"file_name": 3}', "no file_name"),
        ('{"file_name": "a.png", "text": 3}', "a caption must be a text"),
        ('{"file_name": "../secret.png", "text": "a"}', "leads out of the folder"),
        ('{"file_name": "x/../../secret.png", "text": "a"}', "leads out of the folder"),
        ('{"file_name": "/etc/passwd.png", "text": "a"}', "leads out of the folder"),
        ('{"file_name": "C:\\\\a.png", "text": "a"}', "leads out of the folder"),
        ('{"file_name": "a.png", "mask": "../m.png"}', "leads out of the folder"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_wrong_row_is_named_and_the_others_are_read(line: str, reason: str) -> None:
    good = '{"file_name": "good.png", "text": "good"}'
    table = read_table(f"{line}\n{good}".encode(), "metadata.jsonl")
    assert list(table.rows) == ["good.png"]
    assert len(table.problems) == 1
    assert table.problems[0][0] == "metadata.jsonl line 1"
    assert reason in table.problems[0][1]
