"""Which is better, and is it noise: on sets of known difference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rein.errors import DamagedFileError, InputError
from rein.evaluation.comparing import compare_pictures, comparison_json, mean_difference, set_differences
from rein.evaluation.comparing_reports import compare_reports, is_report, share_difference
from rein.evaluation.features import finished, judge_network
from rein.evaluation.intervals import share
from rein.evaluation.judges import Judges
from rein.evaluation.obedience import Measure
from rein.evaluation.outcomes import OUTCOMES_NAME, OutcomeRow, read_outcomes
from rein.evaluation.page import comparison_page, told
from rein.evaluation.picture_lists import open_list
from rein.evaluation.report import Claims, Report, write_report
from rein.evaluation.score import Scorer
from tests.evaluation.pictures import folder

JUDGES = Judges(judge_network())


def test_the_set_that_is_nearer_to_the_real_one_is_better(tmp_path: Path) -> None:
    near, far = open_list(folder(tmp_path / "near", 40, 10, 0)), open_list(folder(tmp_path / "far", 40, 120, 1))
    real = open_list(folder(tmp_path / "real", 40, 0, 2))
    found = finished(compare_pictures(near, far, JUDGES, real))
    verdicts = {row.key: row.verdict for row in found.differences}
    assert verdicts["kid"] == verdicts["coverage"] == "first"
    assert "second" not in verdicts.values()
    assert all(row.paired for row in found.differences) and found.notes[0] == "40 pairs of the same name"
    assert found.notes[1].startswith("too few pictures for a Fréchet distance: 40") and len(found.notes) == 2
    shown = comparison_page(found).render()
    assert shown.count("the first is better</span>") == sum(verdict == "first" for verdict in verdicts.values())
    assert '"verdict": "first"' in comparison_json(found)
    rows = {row.key: row for row in found.differences}
    assert told(rows["kid"]) == "the first is better"
    assert rows["density"].verdict in ("differs", "noise") and told(rows["density"]) in ("they differ", "may be noise")


def test_two_sets_of_one_population_are_mostly_noise(tmp_path: Path) -> None:
    one, other = open_list(folder(tmp_path / "a", 40, 0, 0)), open_list(folder(tmp_path / "b", 30, 0, 1))
    real = open_list(folder(tmp_path / "real", 40, 0, 2))
    found = finished(compare_pictures(one, other, JUDGES, real))
    assert {row.verdict for row in found.differences if row.key in ("kid", "precision", "density")} == {"noise"}
    assert not found.differences[0].paired and "compare it for equal numbers only" in found.notes[2]
    same = finished(compare_pictures(one, one, JUDGES, real))
    assert all(row.low == row.high == 0 and row.verdict == "noise" for row in same.differences)


def test_an_interval_holds_no_difference_in_most_trials_of_one_population() -> None:
    """Of 30 trials without a difference 5% should be called one."""
    wrong = 0
    for seed in range(30):
        random = np.random.default_rng(seed)
        one, other, real = (random.normal(size=(60, 6)).astype(np.float32) for _ in range(3))
        rows = finished(set_differences((one, other), real, [], JUDGES))
        wrong += next(row for row in rows if row.key == "kid").verdict != "noise"
    assert wrong <= 5


def test_pairs_find_what_two_sets_cannot() -> None:
    random = np.random.default_rng(0)
    ease = random.normal(size=200)
    one, other = ease + 0.1 * random.normal(size=200), ease + 0.1 + 0.1 * random.normal(size=200)
    assert mean_difference(("x", "x"), one, other, paired=True).verdict == "second"
    assert mean_difference(("x", "x"), one, other, paired=False).verdict == "noise"
    assert mean_difference(("x", "x"), other, one, paired=True).verdict == "first"


def test_prompts_are_compared_too_and_nothing_to_compare_is_said(tmp_path: Path) -> None:
    lists = [open_list(folder(tmp_path / name, 3, seed=seed, prompt="an owl")) for seed, name in enumerate("ab")]
    [row] = finished(compare_pictures(lists[0], lists[1], replace(JUDGES, scorer=Scorer()))).differences
    assert row.key == "obedience" and row.count == (3, 3)
    with pytest.raises(InputError, match="nothing to compare by: give real pictures with --real"):
        finished(compare_pictures(lists[0], lists[1], JUDGES))


def test_newcombes_interval_is_that_of_his_paper() -> None:
    """Newcombe 1998, table II: 56/70 against 48/80, method 10."""
    found = share_difference(share(48, 80), share(56, 70))
    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(0.0524, abs=1e-4)
    assert found.high == pytest.approx(0.3339, abs=1e-4)


def report(right: int) -> Report:
    measure = Measure("trained", "concept", "trained prompts: the thing", share(right, 50), share(50, 50), None)
    claims = Claims(1, ("x",), (), "hand")
    return Report("m", "k", {}, {}, claims, (measure,), (), None, None, 50, 1.0)


def evaluation(place: Path, right: int, outcomes: bool, seed: int = 0) -> Path:
    place.mkdir()
    write_report(report(right), place / "report.json")
    if outcomes:
        rows = [
            OutcomeRow("trained", f"thing {number}", seed + number, {"concept": number < right}) for number in range(50)
        ]
        lines = (f'{{"group":"{r.group}","prompt":"{r.prompt}","seed":{r.seed},"right":{{"concept":' for r in rows)
        values = (str(r.right["concept"]).lower() + "}}" for r in rows)
        (place / OUTCOMES_NAME).write_text("\n".join(a + b for a, b in zip(lines, values, strict=True)))
    return place


def test_reports_are_compared_question_by_question(tmp_path: Path) -> None:
    worse, better = evaluation(tmp_path / "a", 40, True), evaluation(tmp_path / "b", 46, True)
    assert is_report(worse) and is_report(worse / "report.json") and not is_report(tmp_path)
    found = compare_reports(worse, better)
    [row] = found.differences
    assert (row.first, row.second, row.paired, row.verdict) == (0.8, 0.92, True, "second")
    assert found.notes == ("50 questions that both were asked, compared one by one",)
    plain = compare_reports(evaluation(tmp_path / "c", 40, False), better).differences[0]
    assert not plain.paired and plain.verdict == "noise", "the same shares without the pairing tell nothing"


def test_reports_without_common_questions_and_broken_ones_are_refused(tmp_path: Path) -> None:
    one, other = evaluation(tmp_path / "a", 40, True), evaluation(tmp_path / "b", 46, True, seed=100)
    with pytest.raises(InputError, match="have no prompts in common"):
        compare_reports(one, other)
    (one / OUTCOMES_NAME).write_text("{}\n")
    with pytest.raises(DamagedFileError, match=r"outcomes\.jsonl holds no outcomes"):
        read_outcomes(one)
