"""Figures about single pictures: whether each shows its prompt, and how alike pairs are."""

from __future__ import annotations

from collections.abc import Generator, Sequence, Sized

from rein.errors import InputError
from rein.evaluation.features import judge_digest
from rein.evaluation.judges import BATCH, Judges, Stage, figure, mean_of
from rein.evaluation.likeness import ssim
from rein.evaluation.networks import PerceptualDistance
from rein.evaluation.picture_lists import PictureList
from rein.evaluation.results import Better, Figure
from rein.images import pil_to_tensor, psnr


def prompt_figures(drawn: PictureList, judges: Judges) -> Generator[Stage, None, tuple[list[Figure], dict[int, float]]]:
    """What CLIP and the judge say of pictures whose prompts are known, and the judge's chance of each picture."""
    figures: list[Figure] = []
    chances: dict[int, float] = {}
    agreements: list[float] = []
    if judges.clip is None and judges.scorer is None:
        return figures, chances
    known = [place for place, prompt in enumerate(drawn.prompts) if prompt]
    for start in range(0, len(known), BATCH):
        places = known[start : start + BATCH]
        for place, (chance, agreement) in zip(places, prompt_scores(drawn, places, judges), strict=True):
            chances |= {} if chance is None else {place: chance}
            agreements += [] if agreement is None else [agreement]
        yield Stage("asking for the prompts", start + len(places), len(known))
    if chances:
        estimate = mean_of(list(chances.values()))
        judge = _by(f"judge ({judge_digest()[:10]})", chances)
        figures.append(figure("obedience", "judge's chance of what is asked", estimate, judge))
    if agreements and judges.clip is not None:
        label = f"{judges.clip.name} ({judges.clip.sha256[:10]})"
        figures.append(figure("clip_score", "CLIP score", mean_of(agreements), _by(label, agreements)))
    return figures, chances


def _by(network: str, values: Sized) -> tuple[Better, str, int]:
    return "higher", network, len(values)


def prompt_scores(drawn: PictureList, places: Sequence[int], judges: Judges) -> list[tuple[float | None, float | None]]:
    """For each picture the judge's chance and the CLIP score, None where there is no prompt or no say."""
    images = [drawn[place] for place in places]
    prompts = [drawn.prompts[place] or "" for place in places]
    chances = [judges.scorer.score(p, i) if judges.scorer and p else None for p, i in zip(prompts, images, strict=True)]
    agreements: list[float | None] = [None] * len(places)
    if judges.clip is not None and images:
        scores = judges.clip.scores(images, prompts).tolist()
        agreements = [score if prompt else None for prompt, score in zip(prompts, scores, strict=True)]
    return list(zip(chances, agreements, strict=True))


def pair_figures(
    lists: tuple[PictureList, PictureList], pairs: Sequence[tuple[int, int]], lpips: PerceptualDistance | None
) -> Generator[Stage, None, list[Figure]]:
    """Pictures of equal names, one by one: PSNR, SSIM, LPIPS."""
    drawn, real = lists
    values: dict[str, list[float]] = {"psnr": [], "ssim": [], "lpips": []}
    for done, (ours, theirs) in enumerate(pairs, start=1):
        one, other = pil_to_tensor(drawn[ours])[None], pil_to_tensor(real[theirs])[None]
        if one.shape != other.shape:
            sizes = " and ".join(f"{x.shape[3]} x {x.shape[2]}" for x in (one, other))
            raise InputError(f"the pictures called {drawn.names[ours]!r} are of different sizes, {sizes}")
        values["psnr"].append(float(psnr(one, other)))
        values["ssim"].append(float(ssim(one, other)))
        if lpips is not None:
            values["lpips"].append(float(lpips(one, other)))
        yield Stage("comparing pairs", done, len(pairs))
    network = "" if lpips is None else f"{lpips.name} ({lpips.sha256[:10]})"
    rows: list[tuple[str, str, Better, str]] = [
        ("psnr", "PSNR of pairs, dB", "higher", ""),
        ("ssim", "SSIM of pairs", "higher", ""),
        ("lpips", "LPIPS of pairs", "lower", network),
    ]
    return [
        figure(key, label, mean_of(values[key]), (better, by, len(pairs)))
        for key, label, better, by in rows
        if values[key]
    ]
