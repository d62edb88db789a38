"""CLIP's byte-pair tokenizer (Radford et al., 2021, section 2.4), and training of smaller ones of the same kind.

Text is put into Unicode form NFC, runs of white space become one space, letters become lower case. A word is a
contraction ('s 't 're 've 'm 'll 'd), a run of letters, one digit, or a run of other signs; its UTF-8 bytes are joined
by the merges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE

from rein.errors import InputError
from rein.files import write_failure
from rein.text.byte_pairs import LETTER_BYTES, WORD_END, learn_merges
from rein.text.vocabulary import Vocabulary, clip_vocabulary, read_vocabulary

if TYPE_CHECKING:
    import torch

FILE_NAME = "tokenizer.json"
BASE_SIZE = 514  # 256 bytes, inside and at the end of a word, and the two marks

_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Tokenizer:
    """Text to token ids and back.

    Attributes:
        start, end: ids of the marks around a text.
        pad: id that fills a row of `batch` after its end.
        vocabulary_size: number of tokens; ids are below it.
    """

    def __init__(self, vocabulary: Vocabulary, backend: Backend | None = None) -> None:
        self._vocabulary = vocabulary
        ids = vocabulary.ids
        self.start = ids[vocabulary.start]
        self.end = ids[vocabulary.end]
        self.pad = vocabulary.pad
        self.vocabulary_size = len(ids)
        self._backend = backend or _backend(vocabulary, ids)

    @cached_property
    def longest_token(self) -> int:
        """Bytes of the longest token: a text has at least as many tokens as its bytes divided by this."""
        return max(len(token.removesuffix(WORD_END)) for token in self._vocabulary.tokens)

    @classmethod
    def from_files(cls, path: str | Path) -> Tokenizer:
        """Read a `tokenizer.json`, or the one in a folder.

        Raises:
            InputError: there is no such file.
            DamagedFileError: the file is damaged.
        """
        path = Path(path)
        return cls(read_vocabulary(path / FILE_NAME if path.is_dir() else path))

    def save(self, folder: str | Path) -> Path:
        """Write `tokenizer.json` into `folder`, which is made if it is missing; returns the file's path."""
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_failure(folder, error) from error
        self._vocabulary.write(folder / FILE_NAME)
        return folder / FILE_NAME

    def with_pad(self, pad: int) -> Tokenizer:
        """The same tokenizer filling rows with `pad`: OpenCLIP's text towers (SD2, SDXL's second) are padded with 0."""
        if not 0 <= pad < self.vocabulary_size:
            raise InputError(f"pad must be a token id from 0 to {self.vocabulary_size - 1}, got {pad}")
        return Tokenizer(replace(self._vocabulary, pad=pad), self._backend)

    def encode(self, text: str) -> list[int]:
        """All token ids of a text, of any length, without start and end.

        A word of any length is merged whole: the time grows with its length, not its square (under 2 s a megabyte).
        A lone surrogate counts as U+FFFD. The literal "<|startoftext|>" and "<|endoftext|>" give the marks' own ids.
        """
        if not isinstance(text, str):
            raise InputError(f"text must be a string, got {type(text).__name__}")
        # The batch call skips offsets, which a long text spends half its time on.
        ids: list[int] = self._backend.encode_batch_fast([_without_surrogates(text)], add_special_tokens=False)[0].ids
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, lower-case, one space after each word; start and end are left out.

        Pads are left out too when they follow an end. Bytes that are not UTF-8 become U+FFFD.
        """
        kept = list(ids)
        if wrong := [place for place in kept if not 0 <= place < self.vocabulary_size]:
            raise InputError(f"token id must be from 0 to {self.vocabulary_size - 1}, got {wrong[0]}")
        if self.end in kept:
            kept = kept[: kept.index(self.end)]
        tokens = (self._vocabulary.tokens[place] for place in kept if place != self.start)
        return b"".join(_token_bytes(token) for token in tokens).decode("utf-8", "replace").strip()

    def batch(self, texts: Sequence[str], length: int) -> torch.Tensor:
        """Rows of `length` ids, int64 (len(texts), length): start, the text cut to length - 2, end, pads."""
        import torch

        if isinstance(texts, str):
            raise InputError("texts must be a list of strings, got one string")
        if length < 2:
            raise InputError(f"length must be 2 or more, room for start and end, got {length}")
        rows = [[self.start, *self.encode(text)[: length - 2], self.end] for text in texts]
        filled = [row + [self.pad] * (length - len(row)) for row in rows]
        return torch.tensor(filled, dtype=torch.int64).reshape(len(texts), length)


@lru_cache(maxsize=1)
def clip_tokenizer() -> Tokenizer:
    """The tokenizer of Stable Diffusion's text towers, padding with its end; made once."""
    return Tokenizer(clip_vocabulary())


def train_vocabulary(captions: Iterable[str], size: int) -> Tokenizer:
    """Learn a small vocabulary from captions; the same captions, in any order, give the same vocabulary.

    Every byte has a token, so any text can be encoded.

    Args:
        size: tokens in all, from 514. The result is smaller if the captions have no more pairs that occur twice:
            build the text tower with `tokenizer.vocabulary_size`.
    """
    if size < BASE_SIZE:
        raise InputError(f"size must be {BASE_SIZE} or more (bytes and marks), got {size}")
    backend = _backend(Vocabulary.from_merges([]), {})
    counts: Counter[str] = Counter()
    for caption in captions:
        text = backend.normalizer.normalize_str(_without_surrogates(caption))
        counts.update(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text))
    return Tokenizer(Vocabulary.from_merges(learn_merges(counts, size - BASE_SIZE)))


def _backend(vocabulary: Vocabulary, ids: dict[str, int]) -> Backend:
    backend = Backend(BPE(vocab=ids, merges=list(vocabulary.merges), end_of_word_suffix=WORD_END))
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.add_special_tokens(
        [AddedToken(mark, normalized=False, special=True) for mark in (vocabulary.start, vocabulary.end)]
    )
    return backend


def _without_surrogates(text: str) -> str:
    """Halves of a surrogate pair are joined, lone ones become U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _token_bytes(token: str) -> bytes:
    body = token.removesuffix(WORD_END)
    return bytes(LETTER_BYTES[letter] for letter in body) + (b" " if body != token else b"")
