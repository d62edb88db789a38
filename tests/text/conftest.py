"""Two references for CLIP's tokenizer: transformers', and the published algorithm in plain Python.

The vocabulary is read here from the packaged file in its own way, and handed to transformers as the vocab.json and
merges.txt that model folders carry.
"""

import gzip
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import rein.text.vocabulary as under_test

VOCABULARY_FILE = Path(under_test.__file__).parents[1] / "assets" / "clip" / "bpe_simple_vocab_16e6.txt.gz"
Encode = Callable[[str], list[int]]


def _byte_alphabet() -> list[str]:
    """GPT-2's table as an array: letter of each byte, counting bytes that do not print up from U+0100."""
    alphabet, spare = [], 0x100
    for byte in range(256):
        prints = 0x21 <= byte <= 0x7E or (byte >= 0xA1 and byte != 0xAD)
        alphabet.append(chr(byte if prints else spare))
        spare += not prints
    return alphabet


def _vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    lines = gzip.decompress(VOCABULARY_FILE.read_bytes()).decode("utf-8").split("\n")
    merges = [(line.split()[0], line.split()[1]) for line in lines[1 : 49152 - 256 - 2 + 1]]
    letters = sorted(_byte_alphabet())  # by code point: printable ones first, which is the order of ids
    tokens = letters + [letter + "</w>" for letter in letters] + [a + b for a, b in merges]
    tokens += MARKS
    return {token: place for place, token in enumerate(tokens)}, merges


@pytest.fixture(scope="session")
def transformers_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """CLIPTokenizer made from vocab.json and merges.txt, as a model folder has them."""
    from transformers import CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    ids, merges = _vocabulary()
    (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    text = "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges)
    (folder / "merges.txt").write_text(text, encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)


WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
MARKS = ("<|startoftext|>", "<|endoftext|>")
CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")


def _kind(letter: str) -> str:
    if letter in WHITE_SPACE:
        return "space"
    return {"L": "letter", "N": "number"}.get(unicodedata.category(letter)[0], "sign")


def _words(text: str) -> Iterator[str]:
    place = 0
    while place < len(text):
        end = place + 1
        kind = _kind(text[place])
        if mark := next((mark for mark in MARKS if text.startswith(mark, place)), ""):
            yield from (mark[:2], mark[2:-2], mark[-2:])  # typed in capitals: lower-cased by now, and no mark any more
            place += len(mark)
            continue
        if short := next((short for short in CONTRACTIONS if text.startswith(short, place)), ""):
            end = place + len(short)
        elif kind != "number":
            while end < len(text) and _kind(text[end]) == kind:
                end += 1
        if kind != "space":
            yield text[place:end]
        place = end


@pytest.fixture(scope="session")
def published_algorithm() -> Encode:
    """Byte-pair encoding as CLIP's paper describes it: join the neighbours of lowest rank until none is left.

    Cleaning is NFC and lower case, letter by letter (a final sigma is no exception in transformers). CLIP's own release
    also repairs mis-decoded text and HTML entities, which transformers does not, and so neither does Rein. A mark typed
    out is that mark.
    """
    ids, merges = _vocabulary()
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    alphabet = _byte_alphabet()

    def encode_word(word: str) -> list[int]:
        symbols = [alphabet[byte] for byte in word.encode("utf-8")]
        symbols[-1] += "</w>"
        while True:
            pairs = list(pairwise(symbols))
            best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)), default=("", ""))
            if best not in ranks:
                return [ids[symbol] for symbol in symbols]
            joined: list[str] = []
            for symbol in symbols:
                # "x" after a merged "ax" cannot match again, since joined[-1] is then the pair itself
                if joined and (joined[-1], symbol) == best:
                    joined[-1] += symbol
                else:
                    joined.append(symbol)
            symbols = joined

    def encode_part(text: str) -> list[int]:
        text = "".join(letter.lower() for letter in unicodedata.normalize("NFC", text))
        return [number for word in _words(text) for number in encode_word(word)]

    def encode(text: str) -> list[int]:
        parts = re.split("(" + "|".join(map(re.escape, MARKS)) + ")", text)
        return [number for part in parts for number in ([ids[part]] if part in MARKS else encode_part(part))]

    return encode
