"""`--preview`: files that appear while a picture is drawn, signs on a terminal, and a picture that stays the same."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from rein.cli.preview import HalfBlocks
from rein.image_files import read_image
from rein.pipeline.model import load
from rein.pipeline.preview import preview_of
from tests.cli.conftest import ENVIRONMENT, Run

CALL = ("generate", "owl", "--steps", 5, "--seed", 7)


def test_the_picture_is_the_same_with_previews(rein: Run, tiny: str) -> None:
    without = rein(*CALL, "-m", tiny, "-o", "without.png")
    shown = rein(*CALL, "-m", tiny, "-o", "with.png", "--preview", "look.png")
    assert (without.code, shown.code, shown.err) == (0, 0, "")
    assert Path("with.png").read_bytes() == Path("without.png").read_bytes()
    assert sorted(path.name for path in Path().iterdir()) == ["look.png", "with.png", "without.png"]
    look = read_image("look.png")
    assert look.size == (32, 32)
    assert len(look.getcolors() or ()) > 10


def test_a_folder_has_the_steps(rein: Run, tiny: str) -> None:
    done = rein(*CALL, "-m", tiny, "-n", 2, "-o", "out", "--preview", "steps", "--preview-every", 2)
    assert done.code == 0
    names = [f"{seed}-{step:04}.png" for seed in (7, 8) for step in (2, 4, 5)]
    assert sorted(path.name for path in Path("steps").iterdir()) == names
    model = load(tiny, "cpu")
    preview = preview_of(model.parts)
    for step in model.steps("owl", steps=5, seed=7):
        if step.index + 1 in (2, 5):
            expected = preview(step.denoised[0]).resize((32, 32), Image.Resampling.BICUBIC)
            assert read_image(f"steps/7-{step.index + 1:04}.png").tobytes() == expected.tobytes()


def test_another_decoder(rein: Run, tiny: str) -> None:
    vae = Path(tiny, "autoencoder.safetensors")
    done = rein(*CALL, "-m", tiny, "-o", "owl.png", "--preview", "look.png", "--preview-vae", vae, "--dtype", "float32")
    assert (done.code, done.err) == (0, "")
    assert read_image("look.png").tobytes() == read_image("owl.png").tobytes()  # the model's own: nothing is missing


def test_a_preview_that_cannot_be_written_stops_nothing(rein: Run, tiny: str) -> None:
    done = rein(*CALL, "-m", tiny, "-o", "owl.png", "--preview", "missing/look.png")
    assert (done.code, done.err, done.last) == (0, "", Path("owl.png"))
    assert done.out.startswith("note: no more previews: cannot write missing/look.png: its folder does not exist")
    assert done.out.count("note:") == 1
    silent = rein(*CALL, "-m", tiny, "-o", "b.png", "--preview", "missing/look.png", "--json")
    assert json.loads(silent.out)["complete"] is True


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--preview", "look.jpg"), "give 'terminal', a name that ends in .png, or a folder"),
        (("--preview", "a.png", "--preview-every", "0"), "--preview-every is 0: it must be 1 or more"),
        (("--preview-every", "2"), "it means nothing without --preview"),
        (("--preview-vae", "x"), "it means nothing without --preview"),
    ],
)
def test_wrong_options_are_refused_at_once(rein: Run, options: tuple[str, ...], reason: str) -> None:
    done = rein(*CALL, "-m", "no such model", *options)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert reason in done.err


def test_a_decoder_that_is_not_there(rein: Run, tiny: str) -> None:
    done = rein(*CALL, "-m", tiny, "--preview", "a.png", "--preview-vae", "nothing.safetensors")
    assert (done.code, done.out) == (2, "")
    assert "--preview-vae is 'nothing.safetensors': there is no such file" in done.err


def test_without_a_terminal_there_is_nothing_to_see(rein: Run, tiny: str) -> None:
    done = rein(*CALL, "-m", tiny, "-o", "owl.png", "--preview", "terminal")
    assert (done.code, done.err, len(done.out.splitlines())) == (0, "", 2)


def on_terminal(*arguments: str, folder: Path) -> str:
    """What a run of the program writes to a terminal of 80 x 24 signs that knows all colours."""
    main, other = pty.openpty()
    environment = ENVIRONMENT | {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "80", "LINES": "24"}
    running = subprocess.Popen(
        [sys.executable, "-m", "rein", *arguments],
        env=environment,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=other,
    )
    os.close(other)
    seen = b""
    while True:
        try:
            part = os.read(main, 65_536)
        except OSError:  # how Linux tells that the other end is closed
            break
        if not part:
            break
        seen += part
    os.close(main)
    assert running.wait(timeout=300) == 0
    return seen.decode()


def test_a_terminal_shows_half_blocks_in_colours(tiny: str, tmp_path: Path) -> None:
    call = ("generate", "owl", "-m", tiny, "--steps", "60", "--seed", "7")
    seen = on_terminal(*call, "--preview", "terminal", folder=tmp_path)
    assert seen.count("▀") > 200
    assert "\x1b[38;2;" in seen and ";48;2;" in seen
    assert "▀" not in on_terminal(*call, folder=tmp_path)
    first, second = sorted((tmp_path / "pictures").iterdir())
    assert first.read_bytes() == second.read_bytes()


def test_two_pixels_in_a_sign() -> None:
    from rich.console import Console

    image = Image.new("RGB", (4, 4), "red")
    for row in (1, 3):
        image.paste((0, 0, 255), (0, row, 4, row + 1))
    console = Console(width=4, height=8, force_terminal=True, color_system="truecolor")
    with console.capture() as captured:
        console.print(HalfBlocks(image))
    assert captured.get().count("\x1b[38;2;255;0;0;48;2;0;0;255m▀▀▀▀") == 2
    tall = HalfBlocks(Image.new("RGB", (10, 1000)))
    with console.capture() as captured:
        console.print(tall)
        console.print(tall)
    assert 2 <= captured.get().count("\n") <= 4
