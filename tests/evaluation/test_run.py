from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rein.data.icons import IconArt
from rein.errors import InputError, OutputError
from rein.evaluation.classifier import Classifier
from rein.evaluation.comparing_reports import compare_reports
from rein.evaluation.report import REPORT_NAME, read_report
from rein.evaluation.run import (
    NEAREST_NAME,
    SHEET_NAME,
    EvaluationOptions,
    Progress,
    copying_of,
    evaluate,
)
from rein.evaluation.subject import Subject
from rein.nn.autoencoder import Autoencoder
from rein.nn.specs import AutoencoderConfig
from tests.evaluation.drawers import Drawer, another_thing

COUNTS = {"trained": 30, "held_out_style": 12, "colour": 10, "held_out_colour": 10, "pair": 6, "held_out_pair": 12}
SMALL = AutoencoderConfig(latent_channels=2, channels=(8, 8), blocks_per_level=1, norm_groups=4, middle_attention=False)


def options_for(art: IconArt, folder: Path) -> EvaluationOptions:
    return EvaluationOptions(art.options, folder, COUNTS, nearest_pictures=300, psnr_pictures=20)


def subject_of(draw: Drawer, key: str = "weights") -> Subject:
    torch.manual_seed(0)
    return Subject(draw, Autoencoder(SMALL), "drawn", key, {"steps": "20"})


def finished(subject: Subject, options: EvaluationOptions, classifier: Classifier) -> list[Progress]:
    progress = list(evaluate(subject, options, classifier))
    assert all(entry.report is None for entry in progress[:-1])
    return progress


def test_a_whole_evaluation(art: IconArt, classifier: Classifier, tmp_path: Path) -> None:
    draw, options = Drawer(art), options_for(art, tmp_path / "evaluation")
    progress = finished(subject_of(draw), options, classifier)
    report = progress[-1].report
    assert report is not None and report == read_report(options.folder / REPORT_NAME)
    assert report.pictures == draw.drawn == progress[-1].total <= sum(COUNTS.values())
    stages = list(dict.fromkeys(entry.stage for entry in progress))
    assert stages == ["drawing", "judging", "reconstructing", "searching for copies", "done"]
    for stage in ("drawing", "reconstructing", "searching for copies"):
        counted = [entry.done for entry in progress if entry.stage == stage]
        assert counted == sorted(counted) and counted[-1] == next(e.total for e in progress if e.stage == stage)
    assert report.measure("trained", "concept").drawn.rate > 0.85
    assert report.versions["judge"] == "given"
    assert report.claims.left_out == () and len(report.claims.claimed) == 16
    assert report.reconstruction is not None and report.reconstruction.count == 20
    assert report.copying is not None and report.copying.training_pictures == 300
    assert {kind.near_copies.total for kind in report.copying.kinds} == {
        report.measure(group, "concept").drawn.total for group in ("trained", "held_out_style")
    }
    for name in (SHEET_NAME, NEAREST_NAME):
        with Image.open(options.folder / name) as sheet:
            assert sheet.width > 100


def test_stopped_and_started_again(art: IconArt, classifier: Classifier, tmp_path: Path) -> None:
    options = options_for(art, tmp_path)
    first = Drawer(art)
    for entry in evaluate(subject_of(first), options, classifier):
        if entry.done >= 24:
            break
    rest = Drawer(art)
    resumed = finished(subject_of(rest), options, classifier)[-1].report
    other = Drawer(art)
    whole = finished(subject_of(other), replace(options, folder=tmp_path / "other"), classifier)[-1].report
    assert resumed is not None and whole is not None
    assert first.drawn + rest.drawn == other.drawn and 0 < first.drawn < other.drawn
    assert replace(resumed, seconds=0) == replace(whole, seconds=0)
    compared = compare_reports(tmp_path, tmp_path / "other")
    assert {row.key for row in compared.differences} == {f"{m.group}/{m.name}" for m in whole.measures}
    assert all(row.paired and row.low == row.high == 0 for row in compared.differences)


def test_another_model_is_drawn_anew(art: IconArt, classifier: Classifier, tmp_path: Path) -> None:
    options = replace(options_for(art, tmp_path), nearest_pictures=0, psnr_pictures=0)
    finished(subject_of(Drawer(art), "one"), options, classifier)
    draw = Drawer(art, another_thing)
    report = finished(subject_of(draw, "two"), options, classifier)[-1].report
    assert report is not None and draw.drawn == report.pictures
    assert report.measure("trained", "concept").drawn.rate < 0.15
    assert report.reconstruction is None and report.copying is None


def test_claims_are_measured_on_other_pictures(art: IconArt, classifier: Classifier, tmp_path: Path) -> None:
    failing = {0, 6}
    draw = Drawer(art, lambda prompt: another_thing(prompt) if prompt.concepts[0] in failing else prompt)
    options = options_for(art, tmp_path)
    options = replace(options, choose_claims=True, fewest_claims=8, nearest_pictures=0, psnr_pictures=0)
    progress = finished(subject_of(draw), options, classifier)
    report = progress[-1].report
    assert report is not None and progress[0].stage == "choosing claims"
    assert {"disc", "wing"} == {art.concepts[c].icon for c in failing}
    assert not {"disc", "wing"} & set(report.claims.claimed)
    assert set(report.claims.left_out) >= {art.concepts[c].name for c in failing}
    assert draw.drawn == report.pictures + progress[0].total
    assert report.failing[0].right == 0


def test_given_claims(art: IconArt, classifier: Classifier, tmp_path: Path) -> None:
    options = replace(options_for(art, tmp_path), nearest_pictures=0, psnr_pictures=0)
    some = replace(options, claims=("leaf", "boat", "tree", "box"))
    report = finished(subject_of(Drawer(art)), some, classifier)[-1].report
    assert report is not None and set(report.claims.claimed) == {"leaf", "boat", "tree", "box"}
    with pytest.raises(InputError, match="unknown claimed concept 'boot'.*did you mean 'boat'"):
        list(evaluate(subject_of(Drawer(art)), replace(options, claims=("boot",)), classifier))
    with pytest.raises(InputError, match="psnr_pictures is -1"):
        list(evaluate(subject_of(Drawer(art)), replace(options, psnr_pictures=-1), classifier))


def test_what_cannot_be_evaluated(art: IconArt, classifier: Classifier, tmp_path: Path) -> None:
    options = replace(options_for(art, tmp_path / "one"), counts=dict.fromkeys(COUNTS, 0))
    with pytest.raises(InputError, match="nothing to ask"):
        list(evaluate(subject_of(Drawer(art)), options, classifier))
    large = replace(subject_of(Drawer(art)), draw=lambda texts, seeds: [Image.new("RGB", (48, 40)) for _ in texts])
    with pytest.raises(InputError, match="drawn draws 48 x 40 pixels, but the art has 32 x 32"):
        list(evaluate(large, options_for(art, tmp_path / "two"), classifier))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="part of the path is a file"):
        list(evaluate(subject_of(Drawer(art)), options_for(art, tmp_path / "file" / "folder"), classifier))


def test_a_copier_and_a_painter_are_told_apart() -> None:
    """Distances of 3 trained and 2 held-out pictures, drawn and then real."""
    distances = np.array([0.01, 0.01, 0.2, 0.01, 0.3, 0.02, 0.03, 0.04, 0.2, 0.25], dtype=np.float32)
    found = copying_of(distances, 3, 1000)
    assert found.threshold == pytest.approx(0.03)
    assert [(kind.near_copies.right, kind.near_copies.total) for kind in found.kinds] == [
        (2, 3),
        (1, 2),
        (1, 3),
        (0, 2),
    ]
