"""Blind rating: two pictures side by side, and nobody is told which model drew which. Votes become ratings here.

A study says which pictures stand where; the page that people see does not. A vote names a pair and a side, so it means
nothing without the study.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

from rein.errors import DamagedFileError, InputError, quoted
from rein.evaluation.picture_lists import PictureList, paired_places
from rein.files import atomic_file

CHOICES = ("left", "right", "same")
VERSION = 1
MOST_PAIRS = 500
"""Pairs of one page; a person tires sooner."""

LARGEST_VOTES = 64 * 2**20


@dataclass(frozen=True)
class Pair:
    """Two pictures of the same prompt: their entrants (places in `Study.entrants`) and names, left and right."""

    key: str
    prompt: str
    left: tuple[int, str]
    right: tuple[int, str]


@dataclass(frozen=True)
class Study:
    """Who competes, and every pair. `id` is of its contents; votes carry it."""

    version: int
    id: str
    entrants: tuple[str, ...]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Vote:
    """What one person said of one pair. `rater` may be empty; `at` is when, as the browser writes it."""

    study: str
    pair: str
    choice: Literal["left", "right", "same"]
    rater: str = ""
    at: str = ""


_STUDY, _VOTE = TypeAdapter(Study), TypeAdapter(Vote)


def new_study(lists: Sequence[PictureList], count: int, seed: int = 0) -> Study:
    """A study of `count` pairs at most: pictures of equal names, every two lists in turn, sides and order by lot.

    Raises:
        InputError: fewer than two lists, a count out of range, or two lists without a common name.
    """
    if len(lists) < 2:
        raise InputError("a comparison needs two folders of pictures at least")
    if not 1 <= count <= MOST_PAIRS:
        raise InputError(f"count is {count}: it must be from 1 to {MOST_PAIRS}")
    random = np.random.default_rng(seed)
    matches = []
    for one, other in combinations(range(len(lists)), 2):
        pairs = paired_places(lists[one], lists[other])
        random.shuffle(pairs)
        matches.append([(one, other, *pair) for pair in pairs])
    turns = [match for row in range(max(map(len, matches))) for column in matches for match in column[row : row + 1]]
    chosen = turns[:count]
    random.shuffle(chosen)
    found = []
    for number, (one, other, ours, theirs) in enumerate(chosen):
        sides = (one, lists[one].names[ours]), (other, lists[other].names[theirs])
        left, right = sides if random.random() < 0.5 else sides[::-1]
        found.append(Pair(f"{number + 1:04d}", lists[one].prompts[ours] or "", left, right))
    entrants = tuple(pictures.label for pictures in lists)
    digest = hashlib.sha256(repr((seed, entrants, found)).encode("utf-8", "replace")).hexdigest()[:16]
    return Study(VERSION, digest, entrants, tuple(found))


def write_study(study: Study, path: Path) -> None:
    """Write a study as JSON, where none of other pairs is: without its study a vote means nothing.

    Raises:
        InputError: there is another study.
        DamagedFileError: there is a file that is no study.
        OutputError: it cannot be written.
    """
    if path.exists() and read_study(path).id != study.id:
        raise InputError(f"{path} is the study of other pairs, whose votes would be lost: choose another --output")
    with atomic_file(path) as handle:
        handle.write(_STUDY.dump_json(study, indent=1) + b"\n")


def read_study(path: Path) -> Study:
    """Read what `write_study` wrote.

    Raises:
        InputError: there is no such file.
        DamagedFileError: it is no study of this version.
    """
    try:
        study = _STUDY.validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read the study {path}: {error.strerror or error}") from error
    except ValidationError as error:
        raise DamagedFileError(f"{path} is no study: {error.errors()[0]['msg']}") from error
    places = {side[0] for pair in study.pairs for side in (pair.left, pair.right)}
    if study.version != VERSION or not places <= set(range(len(study.entrants))):
        raise DamagedFileError(f"{path} is no study of version {VERSION}")
    return study


def checked_vote(line: bytes | str, study: Study) -> Vote:
    """A vote from its line of JSON.

    Raises:
        DamagedFileError: it is no vote, or of another study, or of a pair that there is not.
    """
    try:
        vote = _VOTE.validate_json(line)
    except ValidationError as error:
        raise DamagedFileError(f"not a vote: {error.errors()[0]['msg']}") from error
    if vote.study != study.id:
        raise DamagedFileError(f"a vote of the study {quoted(vote.study)}, and this is {study.id!r}")
    if vote.pair not in {pair.key for pair in study.pairs}:
        raise DamagedFileError(f"a vote on the pair {quoted(vote.pair)}, which this study has not")
    return vote


def vote_line(vote: Vote) -> bytes:
    """A vote as a line of a file of votes."""
    return _VOTE.dump_json(vote) + b"\n"


def read_votes(paths: Iterable[Path], study: Study) -> list[Vote]:
    """The votes in files of one vote a line. Of a person's votes on a pair the last one counts.

    Raises:
        InputError: a file is not there, or too large.
        DamagedFileError: a line is no vote of this study; the message says which.
    """
    last: dict[tuple[str, str], Vote] = {}
    for path in paths:
        try:
            if path.stat().st_size > LARGEST_VOTES:
                raise InputError(f"{path} is larger than {LARGEST_VOTES} bytes, the most that is read of votes")
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise InputError(f"cannot read the votes {path}: {error.strerror or error}") from error
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                vote = checked_vote(line, study)
            except DamagedFileError as error:
                raise DamagedFileError(f"{path} line {number}: {error}") from None
            # Without a name votes of several files are several people's.
            rater = vote.rater or str(path)
            last[rater, vote.pair] = replace(vote, rater=rater)
    return list(last.values())
