"""Ratings from votes: the share of wins, and Elo's scale.

The ratings are those of Bradley & Terry (1952), the strengths that make the votes most likely, found by the iteration
of Hunter (2004), and put on Elo's scale: 400 points are odds of ten to one. Unlike ratings that are moved vote by vote
they do not depend on the order of the votes. "The same" is half a win for each. Everybody starts with half a win and
half a loss against an opponent of the mean strength, so that one who won every vote has a rating at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from rein.errors import InputError
from rein.evaluation.distances import interval_of, resampled_counts
from rein.evaluation.intervals import Share, share
from rein.evaluation.rating import Study, Vote

MEAN_RATING = 1500
_RESAMPLES = 500
_ROUNDS, _CLOSE = 500, 1e-7
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rated:
    """One entrant on Elo's scale, with its 95% interval, and its votes."""

    name: str
    elo: float
    low: float
    high: float
    wins: int
    losses: int
    same: int


@dataclass(frozen=True)
class Match:
    """Two entrants: the share of the first among decided votes with its interval, and how likely chance alone is.

    Fields:
        chance: of votes at least as one-sided from people who cannot tell (two-sided sign test), 0 to 1.
    """

    first: str
    second: str
    share: Share
    same: int
    chance: float


@dataclass(frozen=True)
class Tally:
    """The outcome of a study so far."""

    votes: int
    raters: int
    pairs: int
    rated: tuple[Rated, ...]
    matches: tuple[Match, ...]


def tally(study: Study, votes: Sequence[Vote], seed: int = 0) -> Tally:
    """Count votes. Intervals of ratings draw pairs again, not votes: people agree on what is easy.

    Raises:
        InputError: there is no vote.
    """
    if not votes:
        raise InputError("there are no votes to count")
    sides = {pair.key: (pair.left[0], pair.right[0]) for pair in study.pairs}
    size = len(study.entrants)
    by_pair: dict[str, Array] = defaultdict(lambda: np.zeros((size, size)))
    same: dict[tuple[int, int], int] = defaultdict(int)
    decided = np.zeros((size, size))
    for vote in votes:
        left, right = sides[vote.pair]
        if vote.choice == "same":
            by_pair[vote.pair][left, right] += 0.5
            by_pair[vote.pair][right, left] += 0.5
            same[(min(left, right), max(left, right))] += 1
        else:
            won, lost = (left, right) if vote.choice == "left" else (right, left)
            by_pair[vote.pair][won, lost] += 1
            decided[won, lost] += 1
    rated = _rated(study, np.stack(list(by_pair.values())), decided, same, seed)
    matches = [
        _match(study, (one, other), decided, same[(one, other)])
        for one in range(size)
        for other in range(one + 1, size)
        if decided[one, other] + decided[other, one] + same[(one, other)]
    ]
    raters = len({vote.rater for vote in votes})
    return Tally(len(votes), raters, len(by_pair), rated, tuple(matches))


def _rated(
    study: Study, by_pair: Array, decided: Array, same: dict[tuple[int, int], int], seed: int
) -> tuple[Rated, ...]:
    ratings = elo_ratings(by_pair.sum(axis=0))
    counts = resampled_counts(len(by_pair), _RESAMPLES, np.random.default_rng(seed))
    again = np.stack([elo_ratings(np.tensordot(row, by_pair, axes=1)) for row in counts])
    rows = []
    for place, name in enumerate(study.entrants):
        low, high = interval_of(again[:, place])
        drawn = sum(count for pair, count in same.items() if place in pair)
        wins, losses = int(decided[place].sum()), int(decided[:, place].sum())
        rows.append(Rated(name, float(ratings[place]), low, high, wins, losses, drawn))
    return tuple(sorted(rows, key=lambda row: -row.elo))


def elo_ratings(wins: Array) -> Array:
    """Ratings on Elo's scale round `MEAN_RATING`, from how often each won against each, (N, N)."""
    size = len(wins)
    games = wins + wins.T
    strengths = np.ones(size)
    for _ in range(_ROUNDS):
        # The opponent of everybody has strength 1: half a win against it, and a game.
        rates = games / (strengths[:, None] + strengths[None])
        renewed = (wins.sum(axis=1) + 0.5) / (rates.sum(axis=1) + 1 / (strengths + 1))
        renewed /= np.exp(np.log(renewed).mean())
        settled = float(np.abs(np.log(renewed / strengths)).max()) < _CLOSE
        strengths = renewed
        if settled:
            break
    found: Array = MEAN_RATING + 400 * np.log10(strengths)
    return found


def _match(study: Study, places: tuple[int, int], decided: Array, same: int) -> Match:
    one, other = places
    won, lost = int(decided[one, other]), int(decided[other, one])
    return Match(study.entrants[one], study.entrants[other], share(won, won + lost), same, sign_test(won, lost))


def sign_test(won: int, lost: int) -> float:
    """The chance of so one-sided a count, or a more one-sided one, where both are equally likely."""
    total, fewer = won + lost, min(won, lost)
    tail = sum(comb(total, count) for count in range(fewer + 1))
    return min(1.0, float(2 * tail / 2**total))
