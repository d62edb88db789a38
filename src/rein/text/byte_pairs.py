"""Byte-pair merges learned from words: a small vocabulary of the same kind as CLIP's.

Source: Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword Units" (2016), algorithm 1,
over the bytes of each word instead of its letters (Radford et al., 2019, section 2.2).
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from itertools import pairwise

WORD_END = "</w>"
Pair = tuple[str, str]

_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_OTHERS = sorted(set(range(256)) - set(_PRINTABLE))

LETTER_BYTES: dict[str, int] = {
    **{chr(byte): byte for byte in _PRINTABLE},
    **{chr(256 + place): byte for place, byte in enumerate(_OTHERS)},
}
"""The letter that stands for each byte, in CLIP's order of ids: bytes that print in Latin-1, then 68 from U+0100 on."""


def learn_merges(counts: Mapping[str, int], number: int) -> list[Pair]:
    """Learn up to `number` merges, each of which makes a token, most frequent pair first.

    Args:
        counts: how often each word occurs; words are written in the letters of `LETTER_BYTES`, without the word end.
        number: merges to learn. Fewer are learned when no pair is left that occurs at least twice.

    Returns:
        Merges in order of rank. Equal counts are settled by the order of the letters, so the result does not depend on
        the order of `counts`.
    """
    pairs = _PairTable(counts)
    merges: list[Pair] = []
    while len(merges) < number and (best := pairs.most_frequent()) is not None:
        pairs.merge(best)
        merges.append(best)
    return merges


class _PairTable:
    """The words as lists of symbols, with the count of every neighbouring pair kept up to date."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._words = [[*word[:-1], word[-1] + WORD_END] for word in counts if word]
        self._weights = [count for word, count in counts.items() if word]
        self._counts: Counter[Pair] = Counter()
        self._places: defaultdict[Pair, set[int]] = defaultdict(set)
        for place in range(len(self._words)):
            self._add(place, 1)
        self._heap = [(-count, pair) for pair, count in self._counts.items()]
        heapify(self._heap)

    def most_frequent(self) -> Pair | None:
        """The pair with the highest count, at least 2; None when there is none."""
        while self._heap:
            negative_count, pair = self._heap[0]
            if self._counts[pair] == -negative_count:
                return pair if negative_count <= -2 else None
            heappop(self._heap)  # an entry from before this pair's count changed; the newer one is in the heap too
        return None

    def merge(self, pair: Pair) -> None:
        """Join `pair` wherever it occurs."""
        changed: set[Pair] = set()
        for place in sorted(self._places[pair]):
            changed.update(self._add(place, -1))
            self._words[place] = _joined(self._words[place], pair)
            changed.update(self._add(place, 1))
        for other in changed:
            if self._counts[other] > 0:
                heappush(self._heap, (-self._counts[other], other))
            else:
                del self._counts[other], self._places[other]

    def _add(self, place: int, sign: int) -> list[Pair]:
        word = self._words[place]
        pairs = list(pairwise(word))
        for pair in pairs:
            self._counts[pair] += sign * self._weights[place]
            if sign > 0:
                self._places[pair].add(place)
            else:
                self._places[pair].discard(place)
        return pairs


def _joined(word: list[str], pair: Pair) -> list[str]:
    result: list[str] = []
    place = 0
    while place < len(word):
        if tuple(word[place : place + 2]) == pair:
            result.append(word[place] + word[place + 1])
            place += 2
        else:
            result.append(word[place])
            place += 1
    return result
