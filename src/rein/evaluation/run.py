"""A whole evaluation as one generator of progress: draw, judge, reconstruct, compare, report."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rein.data.cache import composed
from rein.data.compose import ArtDataset
from rein.data.icons import IconArt
from rein.data.options import ArtOptions
from rein.errors import InputError, quoted
from rein.errors import nearest as nearest_name
from rein.evaluation.classifier import Classifier, load_classifier
from rein.evaluation.features import judge_digest
from rein.evaluation.gallery import Gallery
from rein.evaluation.intervals import Spread, spread
from rein.evaluation.nearest import closeness, nearest, nearest_sheet
from rein.evaluation.obedience import (
    GROUPS,
    REAL_SEED,
    Examiner,
    Outcome,
    Question,
    choose_claims,
    claim_questions,
    measures,
    questions,
    worst_concepts,
)
from rein.evaluation.outcomes import write_outcomes
from rein.evaluation.real import real_pictures
from rein.evaluation.reconstruction import reconstruction_psnr
from rein.evaluation.report import REPORT_NAME, Claims, Copying, Report, picture_sheet, write_report
from rein.evaluation.subject import Subject
from rein.image_files import write_png
from rein.version import __version__

HELD_OUT_GROUPS = tuple(group.name for group in GROUPS if group.held_out)
PLAIN_GROUPS = ("trained", "held_out_style")
SHEET_NAME, NEAREST_NAME = "sheet.png", "nearest.png"


@dataclass(frozen=True)
class EvaluationOptions:
    """What is asked and where it is kept.

    `art` must be what the model was trained on; drawn pictures, sheets and the report go to `folder`. `counts` are the
    prompts of a group by its name in `obedience.GROUPS`. `claims` are the icon names of the claimed concepts, None for
    all; with `choose_claims` they are chosen first, by a picture of every trained concept and style, and at least
    `fewest_claims` of them. `nearest_pictures` training pictures are searched for copies, and `psnr_pictures` are put
    through the autoencoder; 0 leaves that part out.
    """

    art: ArtOptions
    folder: Path
    counts: dict[str, int] = field(default_factory=dict)
    claims: tuple[str, ...] | None = None
    choose_claims: bool = False
    fewest_claims: int = 300
    nearest_pictures: int = 20_000
    psnr_pictures: int = 500
    batch_size: int = 8
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """`done` of `total` pictures in a stage; the last has the report."""

    stage: str
    done: int
    total: int
    report: Report | None = None


def evaluate(subject: Subject, options: EvaluationOptions, classifier: Classifier | None = None) -> Iterator[Progress]:
    """Measure a model; stopped and started again, it goes on with the pictures that are drawn already.

    Raises:
        InputError: a claimed concept, a group of prompts or an option that there is not; a judge of other art.
        OutputError: the folder cannot be written.
    """
    began = time.monotonic()
    run = _Run(subject, options, classifier)
    claimed, claims = yield from run.claims()
    asked = questions(run.art, claimed, options.counts, options.seed)
    if not asked:
        raise InputError("there is nothing to ask: all counts are 0, or the art has no prompts of the groups asked for")
    yield from run.drawn("drawing", asked)
    pictures = run.gallery.pictures([question.order for question in asked])
    real = real_pictures(run.art, [question.prompt for question in asked], range(REAL_SEED, REAL_SEED + len(asked)))
    if pictures.shape != real.shape:
        drawn, wanted = ("{1} x {0}".format(*found.shape[1:3]) for found in (pictures, real))
        raise InputError(
            f"{subject.name} draws {drawn} pixels, but the art has {wanted}: give art options of that size"
        )
    yield Progress("judging", 0, len(asked))
    examiner = Examiner(run.classifier, run.art, claimed)
    outcomes = examiner.outcomes(asked, pictures)
    found = measures(outcomes, examiner.outcomes(asked, real))
    write_outcomes(outcomes, options.folder)
    write_png(picture_sheet(asked, pictures, HELD_OUT_GROUPS), options.folder / SHEET_NAME)
    reconstruction = yield from run.reconstruction()
    copying = yield from run.copying(asked, pictures, real)
    report = Report(
        model=subject.name,
        key=subject.key,
        versions={"rein": __version__, "torch": torch.__version__, "judge": run.judge},
        settings=subject.settings,
        claims=claims,
        measures=tuple(found),
        failing=tuple(worst_concepts([*run.claim_outcomes, *outcomes], run.art)),
        reconstruction=reconstruction,
        copying=copying,
        pictures=len(asked),
        seconds=round(time.monotonic() - began, 1),
    )
    write_report(report, options.folder / REPORT_NAME)
    yield Progress("done", len(asked), len(asked), report)


class _Run:
    """The parts of one evaluation that share the art, the judge and the drawn pictures."""

    def __init__(self, subject: Subject, options: EvaluationOptions, classifier: Classifier | None) -> None:
        for name in ("nearest_pictures", "psnr_pictures"):
            if getattr(options, name) < 0:
                raise InputError(f"{name} is {getattr(options, name)}; it must be at least 0")
        self.subject, self.options, self.classifier = subject, options, classifier or load_classifier()
        self.judge = judge_digest()[:10] if classifier is None else "given"
        self.art = IconArt(options.art)
        self.gallery = Gallery(subject.draw, options.folder, subject.key, options.batch_size)
        self.claim_outcomes: list[Outcome] = []

    def drawn(self, stage: str, asked: Sequence[Question]) -> Iterator[Progress]:
        for done in self.gallery.fill([question.order for question in asked]):
            yield Progress(stage, done, len(asked))

    def claims(self) -> Generator[Progress, None, tuple[list[int], Claims]]:
        """The places of the claimed concepts, chosen or given, and what the report says of it."""
        options, concepts = self.options, self.art.concepts
        if options.choose_claims:
            asked = claim_questions(self.art, options.seed)
            yield from self.drawn("choosing claims", asked)
            pictures = self.gallery.pictures([question.order for question in asked])
            self.claim_outcomes = Examiner(self.classifier, self.art).outcomes(asked, pictures)
            claimed = choose_claims(self.claim_outcomes, self.art, options.fewest_claims)
            how = (
                f"by {len(asked)} other pictures, one of each in every style it is trained in: named in more than half"
            )
        elif options.claims is None:
            claimed, how = list(range(len(concepts))), "all that it was trained on"
        else:
            places = {concept.icon: place for place, concept in enumerate(concepts)}
            for icon in options.claims:
                if icon not in places:
                    raise InputError(f"unknown claimed concept {quoted(icon)}: {nearest_name(icon, places)}")
            claimed, how = sorted({places[icon] for icon in options.claims}), "as the card lists them"
        left_out = [concept.name for place, concept in enumerate(concepts) if place not in set(claimed)]
        icons = tuple(concepts[place].icon for place in claimed)
        return claimed, Claims(len(concepts), icons, tuple(left_out), how)

    def reconstruction(self) -> Generator[Progress, None, Spread | None]:
        """The autoencoder on pictures that show something held out."""
        count = self.options.psnr_pictures
        if self.subject.autoencoder is None or count == 0:
            return None
        dataset = ArtDataset(self.options.art, "validation", self.art)
        pictures = np.stack([dataset.picture(index).pixels for index in range(count)])
        for values in reconstruction_psnr(self.subject.autoencoder, pictures):
            yield Progress("reconstructing", len(values), count)
        return spread(values)

    def copying(
        self, asked: Sequence[Question], drawn: NDArray[np.uint8], real: NDArray[np.uint8]
    ) -> Generator[Progress, None, Copying | None]:
        """Distances of the drawn and the real pictures of one thing to the training pictures, and the sheet."""
        count = self.options.nearest_pictures
        places = {name: [i for i, q in enumerate(asked) if q.group == name] for name in PLAIN_GROUPS}
        if count == 0 or not places["trained"]:
            return None
        training = composed(ArtDataset(self.options.art, "train", self.art), count)
        chosen = [place for name in PLAIN_GROUPS for place in places[name]]
        queries = np.concatenate([drawn[chosen], real[chosen]])
        for found in nearest(queries, training):
            yield Progress("searching for copies", found.compared, count)
        labels = [asked[place].prompt.text for place in chosen]
        sheet = nearest_sheet(drawn[chosen], labels, training, found)
        write_png(sheet, self.options.folder / NEAREST_NAME)
        return copying_of(found.distances, len(places["trained"]), count)


def copying_of(distances: NDArray[np.float32], trained: int, training_pictures: int) -> Copying:
    """The report on distances of drawn pictures and then of real ones: in each `trained` and then held-out ones."""
    drawn, real = np.split(distances, 2)
    threshold = float(np.median(real[:trained]))
    kinds = [
        ("drawn, trained prompts", drawn[:trained]),
        ("drawn, held-out concept-style pairs", drawn[trained:]),
        ("real, trained drawings put together anew", real[:trained]),
        ("real, held-out concept-style pairs", real[trained:]),
    ]
    found = tuple(closeness(label, values, threshold) for label, values in kinds if len(values))
    return Copying(training_pictures, threshold, found)
