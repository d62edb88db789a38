"""Pictures drawn to be judged: resumed, chosen by lot, never twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from rein.errors import DamagedFileError, InputError
from rein.evaluation.drawing import DrawingOptions, captions_as_prompts, draw_pictures, read_prompts
from rein.evaluation.features import finished
from rein.evaluation.picture_lists import open_list
from rein.evaluation.subject import Subject
from tests.evaluation.pictures import folder


class Painter:
    """Draws a plain colour by the seed, and stops when it is told to."""

    def __init__(self, most: int = 1000) -> None:
        self.most, self.drawn = most, list[tuple[str, int]]()

    def __call__(self, prompts: list[str], seeds: list[int]) -> list[Image.Image]:
        if len(self.drawn) + len(prompts) > self.most:
            raise KeyboardInterrupt
        self.drawn += list(zip(prompts, seeds, strict=True))
        return [Image.new("RGB", (8, 8), (seed % 256, 0, 0)) for seed in seeds]


def test_a_run_that_was_stopped_goes_on(tmp_path: Path) -> None:
    prompts = [f"thing {number}" for number in range(20)]
    options = DrawingOptions(tmp_path, each=2, seed=5)
    first, second = Painter(most=24), Painter()
    with pytest.raises(KeyboardInterrupt):
        finished(draw_pictures(Subject(first, None, "m", "key"), prompts, options))
    found = finished(draw_pictures(Subject(second, None, "m", "key"), prompts, options))
    assert len(first.drawn) == 24 and len(second.drawn) == 16
    assert found.prompts == [prompt for prompt in prompts for _ in range(2)]
    assert [found[place].getpixel((0, 0)) for place in (0, 39)] == [(5, 0, 0), (44, 0, 0)]
    assert len(finished(draw_pictures(Subject(Painter(0), None, "m", "key"), prompts, options))) == 40


def test_a_lot_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    prompts = [f"thing {number}" for number in range(50)]

    def chosen(seed: int) -> list[str | None]:
        options = DrawingOptions(tmp_path, count=5, seed=seed)
        return finished(draw_pictures(Subject(Painter(), None, "m", "key"), prompts, options)).prompts

    assert chosen(1) == chosen(1) != chosen(2)
    assert len(set(chosen(1))) == 5


def test_prompts_come_from_a_file_or_from_captions(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("an owl\n\n  a dog \nan owl\n", encoding="utf-16")
    assert read_prompts(tmp_path / "prompts.txt") == ["an owl", "a dog"]
    place = folder(tmp_path / "a", 2)
    with pytest.raises(InputError, match="no picture in .* has a caption: give a list of prompts with --prompts"):
        captions_as_prompts(open_list(place))
    (place / "001.txt").write_text("a cat")
    assert captions_as_prompts(open_list(place)) == ["a cat"]


@pytest.mark.parametrize(
    ("content", "error", "reason"),
    [
        (b"\n \n", InputError, "there is no prompt in"),
        (b"\xff\xfe\xfa\xff\x00", DamagedFileError, "is not UTF-8 text"),
        (b"a" * (2**20 + 1), InputError, "is larger than 1048576 bytes"),
        (None, InputError, "cannot read the prompts"),
    ],
)
def test_files_without_prompts_are_refused(
    content: bytes | None, error: type[Exception], reason: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "p.txt").write_bytes(content)
    with pytest.raises(error, match=reason):
        read_prompts(tmp_path / "p.txt")


@pytest.mark.parametrize("options", [{"count": 0}, {"each": 0}, {"seed": -1}])
def test_options_out_of_range_are_refused(options: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{next(iter(options))} is "):
        DrawingOptions(tmp_path, **options)


def test_too_many_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="100,001 pictures are more than 100,000: choose fewer"):
        finished(draw_pictures(Subject(Painter(), None, "m", "k"), ["a"], DrawingOptions(tmp_path, each=100_001)))
