"""Blind rating: what the page holds and does not hold, which votes count, and what they come to."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rein.errors import DamagedFileError, InputError
from rein.evaluation.elo import MEAN_RATING, elo_ratings, sign_test, tally
from rein.evaluation.picture_lists import PictureList, open_list
from rein.evaluation.rating import (
    Pair,
    Study,
    Vote,
    checked_vote,
    new_study,
    read_study,
    read_votes,
    vote_line,
    write_study,
)
from rein.evaluation.rating_page import rating_page
from tests.evaluation.pictures import folder


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> list[PictureList]:
    place = tmp_path_factory.mktemp("rate")
    return [open_list(folder(place / name, 12, seed=seed, prompt="an <owl>")) for seed, name in enumerate("abc")]


def study_of(count: int, entrants: int = 2) -> Study:
    pairs = tuple(Pair(f"{n:04d}", "", (n % entrants, "x"), ((n + 1) % entrants, "x")) for n in range(count))
    return Study(1, "id", tuple("abcdef"[:entrants]), pairs)


def test_a_study_pairs_equal_names_and_hides_the_sides(lists: list[PictureList]) -> None:
    study = new_study(lists[:2], 12, seed=3)
    assert all(pair.left[1] == pair.right[1] and {pair.left[0], pair.right[0]} == {0, 1} for pair in study.pairs)
    assert 2 <= sum(pair.left[0] for pair in study.pairs) <= 10, "sides are drawn by lot"
    assert len({pair.left[1] for pair in study.pairs}) == 12
    assert new_study(lists[:2], 12, seed=3) == study != new_study(lists[:2], 12, seed=4)
    three = new_study(lists, 9)
    met = [tuple(sorted((pair.left[0], pair.right[0]))) for pair in three.pairs]
    assert {match: met.count(match) for match in set(met)} == {(0, 1): 3, (0, 2): 3, (1, 2): 3}


def test_the_page_does_not_say_whose_pictures_they_are(lists: list[PictureList], tmp_path: Path) -> None:
    study = new_study(lists[:2], 4)
    shown = rating_page(study, lists).render()
    for secret in (*study.entrants, *(pair.left[1] + ".png" for pair in study.pairs), "seed"):
        assert secret not in shown, secret
    data = json.loads(re.search(r'<script type="application/json" id="study">(.*?)</script>', shown)[1])  # type: ignore[index]
    assert [pair["prompt"] for pair in data["pairs"]] == ["an <owl>"] * 4 and data["post"] is None
    assert all(pair[side].startswith("data:image/png;base64,") for pair in data["pairs"] for side in ("left", "right"))
    assert "connect-src" not in shown
    assert "connect-src 'self'" in rating_page(study, lists, "/vote").render().replace("&#x27;", "'")
    write_study(study, tmp_path / "s.json")
    assert read_study(tmp_path / "s.json") == study


def test_the_last_vote_of_a_person_on_a_pair_counts(tmp_path: Path) -> None:
    study = study_of(3)
    rows = [
        Vote("id", "0000", "left", "alice"),
        Vote("id", "0000", "right", "alice"),
        Vote("id", "0000", "left", "bob"),
        Vote("id", "0001", "same", "alice"),
    ]
    (tmp_path / "v.jsonl").write_bytes(b"".join(map(vote_line, rows)) + b"\n")
    found = read_votes([tmp_path / "v.jsonl"], study)
    assert sorted((vote.rater, vote.pair, vote.choice) for vote in found) == [
        ("alice", "0000", "right"),
        ("alice", "0001", "same"),
        ("bob", "0000", "left"),
    ]
    for name in ("x", "y"):  # without names two files are two people
        (tmp_path / name).write_bytes(vote_line(Vote("id", "0002", "left")))
    unnamed = read_votes([tmp_path / "x", tmp_path / "y"], study)
    assert len(unnamed) == 2 and tally(study, unnamed).raters == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not a vote"),
        (b'{"study":"id","pair":"0000","choice":"both"}', "not a vote"),
        (b'{"study":"other","pair":"0000","choice":"left"}', "a vote of the study 'other'"),
        (b'{"study":"id","pair":"0009","choice":"left"}', "a vote on the pair '0009', which this study has not"),
    ],
)
def test_what_is_no_vote_of_the_study_is_refused(line: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match=reason):
        checked_vote(line, study_of(3))
    (tmp_path / "v.jsonl").write_bytes(b"\n" + line)
    with pytest.raises(DamagedFileError, match=r"v\.jsonl line 2: "):
        read_votes([tmp_path / "v.jsonl"], study_of(3))


def test_studies_that_make_no_sense_are_refused(lists: list[PictureList], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs two folders"):
        new_study(lists[:1], 5)
    with pytest.raises(InputError, match="count is 501: it must be from 1 to 500"):
        new_study(lists, 501)
    (tmp_path / "s.json").write_text('{"version": 1, "id": "x", "entrants": [], "pairs": [{}]}')
    with pytest.raises(DamagedFileError, match="is no study"):
        read_study(tmp_path / "s.json")
    write_study(Study(1, "id", ("a",), study_of(2).pairs), tmp_path / "short.json")
    with pytest.raises(DamagedFileError, match="is no study of version 1"):
        read_study(tmp_path / "short.json")


def test_a_study_is_not_written_over_another(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    write_study(study_of(3), path)
    write_study(study_of(3), path)
    with pytest.raises(InputError, match="is the study of other pairs, whose votes would be lost: choose another"):
        write_study(replace(study_of(2), id="other"), path)
    assert read_study(path) == study_of(3)


def test_votes_are_counted_by_entrant_not_by_side() -> None:
    study = study_of(10)  # a stands left in even pairs, right in odd ones
    votes = [Vote("id", f"{n:04d}", "left" if n % 2 == 0 else "right", "x") for n in range(8)]
    votes += [Vote("id", "0008", "same", "x"), Vote("id", "0009", "left", "x")]
    found = tally(study, votes)
    [match] = found.matches
    assert (match.first, match.share.right, match.share.total, match.same) == ("a", 8, 9, 1)
    assert match.chance == pytest.approx(2 * (1 + 9) / 2**9)
    assert [row.name for row in found.rated] == ["a", "b"]
    best, last = found.rated
    assert (best.wins, best.losses, best.same) == (8, 1, 1) and best.low > last.high
    assert best.elo + last.elo == pytest.approx(2 * MEAN_RATING)
    # Each has half a win and half a loss more, against somebody of the mean strength.
    assert best.elo - last.elo == pytest.approx(400 * np.log10(8.5 / 1.5), rel=0.25)
    with pytest.raises(InputError, match="there are no votes"):
        tally(study, [])


def test_ratings_are_those_that_made_the_votes() -> None:
    """Many games between players of known ratings give these ratings back."""
    known = np.array([1700.0, 1500.0, 1450.0, 1350.0])
    odds = 10 ** ((known[:, None] - known[None]) / 400)
    wins = 10_000 * odds / (1 + odds) * (1 - np.eye(4))
    np.testing.assert_allclose(elo_ratings(wins), known, atol=2)
    assert elo_ratings(np.zeros((3, 3))).tolist() == [MEAN_RATING] * 3


def test_the_sign_test_is_exact() -> None:
    assert sign_test(5, 5) == 1
    assert sign_test(10, 0) == pytest.approx(2 / 1024)
    assert sign_test(0, 0) == 1
    assert sign_test(1500, 1300) == pytest.approx(1.67e-4, rel=0.05)
