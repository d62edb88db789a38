"""Judging sets of pictures from folders, from end to end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rein.errors import DamagedFileError, InputError
from rein.evaluation.distances import FRECHET_RESAMPLES, frechet_distance, kernel_distance
from rein.evaluation.features import finished, judge_features, judge_network
from rein.evaluation.judges import Judges, Stage
from rein.evaluation.judging import fid_notes, judge_pictures
from rein.evaluation.networks import load_lpips
from rein.evaluation.page import judged_page
from rein.evaluation.picture_lists import PictureList, open_list
from rein.evaluation.results import read_results, write_results
from rein.evaluation.score import Scorer
from rein.images import pil_to_tensor
from tests.evaluation.pictures import folder
from tests.nn.test_lpips import LEARNED, backbone

FEATURES = judge_network()


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[PictureList, PictureList, PictureList]:
    """Two sets of one population, and one of another."""
    place = tmp_path_factory.mktemp("sets")
    rows = (("a", 0.0, 0), ("b", 0.0, 1), ("warm", 90.0, 2))
    one, other, warm = (open_list(folder(place / name, 40, warm, seed)) for name, warm, seed in rows)
    return one, other, warm


def test_the_figures_are_those_of_the_features(sets: tuple[PictureList, PictureList, PictureList]) -> None:
    one, other, warm = sets
    near = finished(judge_pictures(one, Judges(FEATURES), other)).results
    far = finished(judge_pictures(warm, Judges(FEATURES), other)).results
    vectors = [judge_features(pictures) for pictures in (warm, other)]
    assert far.figure("fd").value == pytest.approx(frechet_distance(*vectors), rel=1e-6)
    assert far.figure("kid").value == pytest.approx(kernel_distance(*vectors), rel=1e-6)
    for key in ("fd", "kid"):
        assert far.figure(key).low > near.figure(key).high, key
    for key in ("precision", "recall", "density", "coverage"):
        assert far.figure(key).value < near.figure(key).value, key
    assert [figure.key for figure in near.figures] == ["is", "fd", "kid", "precision", "recall", "density", "coverage"]
    assert all(FEATURES.sha256[:10] in figure.network for figure in near.figures)
    assert near.settings == {"neighbours": "5"}
    assert near.drawn_count == near.real_count == 40 and near.figure("fd").pictures == 40
    assert near.notes[0].startswith("too few pictures for a Fréchet distance: 40 give no full covariance of 192")


def test_progress_is_told_and_results_are_kept(
    sets: tuple[PictureList, PictureList, PictureList], tmp_path: Path
) -> None:
    work = judge_pictures(sets[0], Judges(FEATURES), sets[1])
    stages: list[Stage] = []
    while True:
        try:
            stages.append(next(work))
        except StopIteration as end:
            judged = end.value
            break
    comparing = [stage for stage in stages if stage.name == "comparing the sets"]
    assert [stage.done for stage in comparing] == list(range(FRECHET_RESAMPLES + 1))
    assert {(stage.total, stage.unit) for stage in comparing} == {(FRECHET_RESAMPLES, "resamples")}
    assert list(dict.fromkeys(stage.name for stage in stages)) == [
        "looking at the pictures",
        "looking at the real pictures",
        "comparing the sets",
    ]
    write_results(judged.results, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == judged.results
    (tmp_path / "results.json").write_text('{"drawn": 3}')
    with pytest.raises(DamagedFileError, match="holds no results of this version"):
        read_results(tmp_path / "results.json")


def test_pairs_are_compared_by_name(sets: tuple[PictureList, PictureList, PictureList], tmp_path: Path) -> None:
    import torch

    state = {f"features.{name}": value for name, value in backbone("alexnet").state_dict().items()}
    torch.save(state, tmp_path / "alexnet.pth")
    lpips = load_lpips([tmp_path / "alexnet.pth", LEARNED / "alex.pth"])
    ours, theirs = sets[0].some(range(5)), sets[1].some(range(2, 5))
    found = finished(judge_pictures(ours, Judges(FEATURES, lpips=lpips, pairs=True, neighbours=2), theirs)).results
    assert found.figure("psnr").pictures == 3 and 5 < found.figure("psnr").value < 20
    assert 0 < found.figure("ssim").value < 1
    pairs = [(pil_to_tensor(ours[place])[None], pil_to_tensor(theirs[place - 2])[None]) for place in range(2, 5)]
    assert found.figure("lpips").value == pytest.approx(np.mean([float(lpips(*pair)) for pair in pairs]), rel=1e-5)
    assert found.figure("lpips").better == "lower" and "LPIPS, alexnet" in found.figure("lpips").network
    with pytest.raises(InputError, match="pairs need a second folder"):
        finished(judge_pictures(ours, Judges(FEATURES, pairs=True)))


def test_prompts_are_asked_for_and_copies_looked_for(
    tmp_path: Path, sets: tuple[PictureList, PictureList, PictureList]
) -> None:
    known = folder(tmp_path / "known", 3, prompt="an owl")
    (known / "001.txt").write_text("nothing that anybody knows")
    drawn = open_list(known)
    judges = Judges(FEATURES, scorer=Scorer(), training=sets[0])
    judged = finished(judge_pictures(drawn, judges))
    assert set(judged.chances) == {0, 2}
    figure = judged.results.figure("obedience")
    assert figure.pictures == 2 and figure.value == pytest.approx(np.mean(list(judged.chances.values())))
    assert [(copies.by, copies.compared) for copies in judged.results.copies] == [("pixels", 40), (FEATURES.label, 40)]
    # The pictures have the seed of the first set, so they are its first three.
    for rows in judged.neighbours:
        assert sorted((row.place, row.nearest) for row in rows) == [(0, 0), (1, 1), (2, 2)]
        assert max(row.distance for row in rows) < 1e-3
    shown = judged_page(judged, drawn, sets[0]).render()
    assert shown.count("data:image/png;base64,") == 3 + 2 * 2 * 3
    assert "an owl" in shown and "Nearest training pictures, by features" in shown and "<script>" in shown
    assert str(tmp_path) in shown, "whose pictures they are is told here: this page is not blind"


def test_one_distance_may_be_asked_for_and_features_are_not_taken_twice(
    sets: tuple[PictureList, PictureList, PictureList],
) -> None:
    def stages(judges: Judges, real: PictureList | None = None) -> tuple[list[str], list[str]]:
        work, names = judge_pictures(sets[1], judges, real), []
        while True:
            try:
                names.append(next(work).name)
            except StopIteration as end:
                return [copies.by for copies in end.value.results.copies], names

    by, names = stages(Judges(FEATURES, training=sets[0], nearest="pixels"))
    assert by == ["pixels"] and "looking at the training pictures" not in names
    by, names = stages(Judges(FEATURES, training=sets[0], nearest="features"))
    assert by == [FEATURES.label] and "looking at the training pictures" in names
    by, names = stages(Judges(FEATURES, training=sets[0]), sets[0])
    assert by == ["pixels", FEATURES.label] and "looking at the training pictures" not in names
    with pytest.raises(InputError, match="nearest is 'words': it must be pixels or features or both"):
        Judges(FEATURES, nearest="words")


@pytest.mark.parametrize(
    ("count", "said"), [(40, "too few pictures"), (192, "too few"), (500, "too high by what chance adds"), (5000, "")]
)
def test_too_few_pictures_are_said(count: int, said: str) -> None:
    notes = fid_notes(count, 50_000, FEATURES)
    assert bool(notes) == bool(said)
    assert all(said in note for note in notes)


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    place = folder(tmp_path / "a", 3)
    (place / "001.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    with pytest.raises(DamagedFileError, match=r"a/001\.png"):
        finished(judge_pictures(open_list(place), Judges(FEATURES)))


def test_what_can_measure_nothing_is_refused_at_once(sets: tuple[PictureList, PictureList, PictureList]) -> None:
    blind = replace(FEATURES, name="a network", has_classes=False)
    with pytest.raises(InputError, match="nothing to measure: a network tells no classes apart; give real pictures"):
        next(judge_pictures(sets[0], Judges(blind)))
    for lists in ((sets[0].some([3]), sets[1]), (sets[0], sets[1].some([3]))):
        with pytest.raises(InputError, match="has 1 picture: a comparison of sets needs 2 at least"):
            next(judge_pictures(lists[0], Judges(FEATURES), lists[1]))


def test_pairs_of_other_sizes_are_refused(tmp_path: Path) -> None:
    one, other = folder(tmp_path / "a", 2), folder(tmp_path / "b", 2)
    Image.new("RGB", (20, 30)).save(other / "001.png")
    lists = open_list(one), open_list(other)
    with pytest.raises(InputError, match="the pictures called '001' are of different sizes, 64 x 64 and 20 x 30"):
        finished(judge_pictures(lists[0], Judges(FEATURES, pairs=True), lists[1]))


def test_a_single_pair_is_compared_as_a_pair_only(sets: tuple[PictureList, PictureList, PictureList]) -> None:
    alone = sets[0].some([3]), sets[1].some([3])
    found = finished(judge_pictures(alone[0], Judges(FEATURES, pairs=True), alone[1])).results
    assert [figure.key for figure in found.figures] == ["is", "psnr", "ssim"]
    assert found.notes == ("a set of 1 picture is no set: only pairs are compared",)
