"""A byte-pair vocabulary and the file it is kept in.

`tokenizer.json` is plain JSON, read as data only:

    {"format": "rein-tokenizer", "version": 1,
     "tokens": [...],            every token, in order of its id, in letters that stand for bytes; "</w>" ends a word
     "merges": [["i", "n"], ...] in order of rank
     "start": "<|startoftext|>", "end": "<|endoftext|>", "pad": 49407}
"""

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

from rein.errors import DamagedFileError, InputError
from rein.files import atomic_file, parse_json
from rein.text.byte_pairs import LETTER_BYTES, WORD_END, Pair

FORMAT, VERSION = "rein-tokenizer", 1
START, END = "<|startoftext|>", "<|endoftext|>"
CLIP_MERGES = 48894  # the file lists 262,144; CLIP uses the first 49,408 tokens - 512 bytes - 2 marks


@dataclass(frozen=True)
class Vocabulary:
    """Tokens and merges of a byte-pair tokenizer.

    Fields:
        tokens: every token in order of its id.
        merges: pairs of tokens that join, in order of rank.
        pad: id that fills a row after its end.
        start, end: the marks around a text; both are among the tokens.
    """

    tokens: tuple[str, ...]
    merges: tuple[Pair, ...]
    pad: int
    start: str = START
    end: str = END

    @classmethod
    def from_merges(cls, merges: Sequence[Pair]) -> "Vocabulary":
        """CLIP's order of ids: 256 bytes, the same at a word's end, what the merges make, start, end. Pads with end."""
        made = ["".join(pair) for pair in merges]
        tokens = dict.fromkeys([*_byte_tokens(), *made, START, END])
        return cls(tuple(tokens), tuple(merges), pad=len(tokens) - 1)

    @property
    def ids(self) -> dict[str, int]:
        return {token: place for place, token in enumerate(self.tokens)}

    def write(self, path: Path) -> None:
        """Write `tokenizer.json`; the same vocabulary always gives the same bytes.

        Raises:
            OutputError: the file cannot be written.
        """
        content = {
            "format": FORMAT,
            "version": VERSION,
            "tokens": self.tokens,
            "merges": self.merges,
            "start": self.start,
            "end": self.end,
            "pad": self.pad,
        }
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"
        with atomic_file(path) as file:
            file.write(text.encode("utf-8"))


def clip_vocabulary() -> Vocabulary:
    """The vocabulary of OpenAI's CLIP: 49,408 tokens."""
    path = files("rein") / "assets" / "clip" / "bpe_simple_vocab_16e6.txt.gz"
    with path.open("rb") as raw, gzip.open(raw, "rt", encoding="utf-8") as lines:
        return Vocabulary.from_merges([_pair(line) for line in islice(lines, 1, 1 + CLIP_MERGES)])


def _byte_tokens() -> list[str]:
    return [*LETTER_BYTES, *(letter + WORD_END for letter in LETTER_BYTES)]


def _pair(line: str) -> Pair:
    first, second = line.split()
    return first, second


def read_vocabulary(path: Path) -> Vocabulary:
    """Read a `tokenizer.json`.

    Raises:
        InputError: there is no such file.
        DamagedFileError: the file is not JSON, not of this format, or its parts do not fit together.
    """
    try:
        content = parse_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"tokenizer {path} does not exist") from error
    except OSError as error:
        raise DamagedFileError(f"tokenizer {path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DamagedFileError(f"tokenizer {path} is not valid JSON ({error}): fetch or save it again") from error
    return _checked(content, path)


def _checked(content: Any, path: Path) -> Vocabulary:
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != VERSION:
        raise DamagedFileError(f'tokenizer {path} is not a "{FORMAT}" file of version {VERSION}')
    try:
        tokens = tuple(content["tokens"])
        merges = tuple((first, second) for first, second in content["merges"])
        vocabulary = Vocabulary(tokens, merges, content["pad"], content["start"], content["end"])
        problem = _problem(vocabulary)
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(f"tokenizer {path} lacks a field or has one of the wrong kind: {error}") from error
    if problem:
        raise DamagedFileError(f"tokenizer {path}: {problem}")
    return vocabulary


def _problem(vocabulary: Vocabulary) -> str | None:
    """What makes a vocabulary unusable, or None."""
    known = set(vocabulary.tokens)
    marks = {vocabulary.start, vocabulary.end}
    if not all(isinstance(token, str) for token in known):
        return "every token must be a string"
    if len(known) != len(vocabulary.tokens):
        return "a token occurs twice"
    if missing := [token for token in _byte_tokens() if token not in known]:
        return f"{len(missing)} of the 512 tokens for single bytes are missing, the first is {missing[0]!r}"
    if len(marks) != 2 or not marks <= known:
        return f"start {vocabulary.start!r} and end {vocabulary.end!r} must be two of the tokens"
    if strange := [token for token in vocabulary.tokens if token not in marks and not _is_bytes(token)]:
        return f"the token {strange[0]!r} has letters that stand for no byte"
    joinable = known - marks
    for first, second in vocabulary.merges:
        if not {first, second, first + second} <= joinable:
            return f"the merge of {first!r} and {second!r} uses or makes an unknown token"
    if type(vocabulary.pad) is not int or not 0 <= vocabulary.pad < len(vocabulary.tokens):
        return f"pad must be a token id from 0 to {len(vocabulary.tokens) - 1}, got {vocabulary.pad!r}"
    return None


def _is_bytes(token: str) -> bool:
    body = token.removesuffix(WORD_END)
    return bool(body) and all(letter in LETTER_BYTES for letter in body)
