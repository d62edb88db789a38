"""The tokenizer's file: what is written comes back, and a damaged file is refused with the reason."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rein.errors import DamagedFileError
from rein.text.tokenizer import Tokenizer, clip_tokenizer, train_vocabulary
from rein.text.vocabulary import clip_vocabulary, read_vocabulary

TEXTS = ["", "a red apple, flat style", "😀 漢字 İ naïve", "x<|endoftext|>y"]


def test_saved_and_read_tokenizers_are_the_same(tmp_path: Path) -> None:
    for number, tokenizer in enumerate([clip_tokenizer().with_pad(0), train_vocabulary(TEXTS * 3, 530)]):
        path = tokenizer.save(tmp_path / str(number))
        for read in (Tokenizer.from_files(path), Tokenizer.from_files(path.parent), Tokenizer.from_files(str(path))):
            assert [read.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]
            assert read.batch(TEXTS, 12).equal(tokenizer.batch(TEXTS, 12))
            assert (read.start, read.end, read.pad) == (tokenizer.start, tokenizer.end, tokenizer.pad)
        again = read.save(tmp_path / f"{number} again")
        assert again.read_bytes() == path.read_bytes()


def test_clip_has_the_published_vocabulary(tmp_path: Path) -> None:
    vocabulary = clip_vocabulary()
    assert len(vocabulary.tokens) == 49408
    assert len(vocabulary.merges) == 48894
    assert vocabulary.tokens[49406:] == ("<|startoftext|>", "<|endoftext|>")
    assert [vocabulary.ids[token] for token in ("!", "a</w>", "in", "the</w>", "photo</w>")] == [0, 320, 512, 518, 1125]
    vocabulary.write(tmp_path / "tokenizer.json")
    assert read_vocabulary(tmp_path / "tokenizer.json") == vocabulary


def _without(content: dict[str, Any], name: str) -> None:
    del content[name]


DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another format": (lambda c: c.update(format="other"), "not a .rein-tokenizer. file of version 1"),
    "a newer version": (lambda c: c.update(version=2), "not a .rein-tokenizer. file of version 1"),
    "no merges": (lambda c: _without(c, "merges"), "lacks a field or has one of the wrong kind: 'merges'"),
    "no pad": (lambda c: _without(c, "pad"), "lacks a field .* 'pad'"),
    "tokens null": (lambda c: c.update(tokens=None), "lacks a field or has one of the wrong kind"),
    "token in a list": (lambda c: c["tokens"].append(["x"]), "lacks a field or has one of the wrong kind"),
    "token a number": (lambda c: c["tokens"].append(3), "every token must be a string"),
    "token twice": (lambda c: c["tokens"].append("a"), "a token occurs twice"),
    "byte missing": (lambda c: c["tokens"].remove("q"), "1 of the 512 tokens for single bytes are missing, .* 'q'"),
    "no start": (lambda c: c.update(start="<s>"), "start '<s>' and end .* must be two of the tokens"),
    "start is end": (lambda c: c.update(start=c["end"]), "must be two of the tokens"),
    "not bytes": (lambda c: c["tokens"].append("漢"), "the token '漢' has letters that stand for no byte"),
    "empty token": (lambda c: c["tokens"].append("</w>"), "the token '</w>' has letters that stand for no byte"),
    "merge of three": (lambda c: c["merges"].append(["a", "b", "c"]), "lacks a field or has one of the wrong kind"),
    "merge of numbers": (lambda c: c["merges"].append([1, 2]), "the merge of 1 and 2"),
    "merge makes unknown": (lambda c: c["merges"].append(["q", "x"]), "merge of 'q' and 'x' uses or makes an"),
    "pad too high": (lambda c: c.update(pad=len(c["tokens"])), "pad must be a token id from 0 to"),
    "pad true": (lambda c: c.update(pad=True), "pad must be a token id .* got True"),
    "pad text": (lambda c: c.update(pad="0"), "pad must be a token id .* got '0'"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_refused(name: str, tmp_path: Path) -> None:
    damage, message = DAMAGE[name]
    path = train_vocabulary(TEXTS * 3, 530).save(tmp_path)
    content = json.loads(path.read_text(encoding="utf-8"))
    damage(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DamagedFileError, match=message) as caught:
        Tokenizer.from_files(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"\0" * 9], ids=lambda data: repr(data[:6])
)
def test_a_file_that_is_not_json_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(data)
    with pytest.raises(DamagedFileError):
        Tokenizer.from_files(tmp_path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").mkdir()
    with pytest.raises(DamagedFileError, match="cannot be read"):
        Tokenizer.from_files(tmp_path)
