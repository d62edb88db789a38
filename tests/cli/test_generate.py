"""`rein generate`: what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import io
import json
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from rein.diffusion.samplers import SAMPLERS
from rein.diffusion.spacing import SPACINGS
from rein.image_files import read_image, read_texts
from rein.nn.specs import SD15
from rein.pipeline import fields
from tests.cli.conftest import ENVIRONMENT, Run, processor_seconds


def request_in(path: Path) -> dict[str, object]:
    """The request that a picture carries."""
    found: dict[str, object] = json.loads(read_texts(path)["rein"])["request"]
    return found


def test_one_picture(rein: Run, tiny: str) -> None:
    done = rein("generate", "A red apple", "--model", tiny, "--steps", 2, "--seed", 7)
    assert (done.code, done.err) == (0, "")
    summary, path = done.out.splitlines()
    assert summary.startswith("seed 7, 32 x 32, 2 steps of euler, guidance 4, ")
    assert path == "pictures/a-red-apple-7.png"
    assert read_image(path).size == (32, 32)
    assert request_in(Path(path))["prompt"] == "A red apple"
    assert read_texts(path)["parameters"].startswith("A red apple\nSteps: 2, Sampler: Euler,")


def test_every_option_reaches_the_picture(rein: Run, tiny: str) -> None:
    done = rein(
        *("generate", "owl", "-m", tiny, "--negative", "blue", "--steps", 3, "--guidance", 2.5),
        *("--sampler", "DPM++ 2M SDE", "--schedule", "karras", "--seed", 11, "--width", 48, "--height", 24),
        *("--device", "cpu", "--dtype", "bf16", "--output", "owl.png"),
    )
    assert (done.code, done.err, done.last) == (0, "", Path("owl.png"))
    assert read_image("owl.png").size == (48, 24)
    manifest = json.loads(read_texts("owl.png")["rein"])
    assert manifest["device"] == "cpu"
    assert manifest["dtype"] == "bfloat16"
    wanted = {
        "prompt": "owl",
        "negative_prompt": "blue",
        "steps": 3,
        "guidance_scale": 2.5,
        "sampler": "dpmpp_2m_sde",
        "spacing": "karras",
        "seed": 11,
        "width": 48,
        "height": 24,
    }
    assert wanted.items() <= manifest["request"].items()


def test_several_pictures_are_those_of_their_seeds(rein: Run, tiny: str) -> None:
    done = rein("generate", "owl", "-m", tiny, "--steps", 2, "--seed", 7, "--count", 3, "-o", "owls")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[:3] == [f"seed {seed}: owls/owl-{seed}.png" for seed in (7, 8, 9)]
    assert done.last == Path("owls")
    alone = rein("generate", "owl", "-m", tiny, "--steps", 2, "--seed", 8, "-o", "alone.png")
    assert alone.code == 0
    assert Path("alone.png").read_bytes() == Path("owls/owl-8.png").read_bytes()
    assert Path("owls/owl-7.png").read_bytes() != Path("owls/owl-8.png").read_bytes()


def test_a_fresh_seed_is_told_and_makes_the_picture_again(rein: Run, tiny: str) -> None:
    first = rein("generate", "owl", "-m", tiny, "--steps", 2, "-o", "a.png")
    other = rein("generate", "owl", "-m", tiny, "--steps", 2, "-o", "b.png")
    seed = first.out.split(",")[0].removeprefix("seed ")
    assert not other.out.startswith(f"seed {seed},")
    rein("generate", "owl", "-m", tiny, "--steps", 2, "-o", "c.png", "--seed", seed)
    assert Path("a.png").read_bytes() == Path("c.png").read_bytes() != Path("b.png").read_bytes()


def test_nothing_is_replaced(rein: Run, tiny: str) -> None:
    call = ("generate", "owl", "-m", tiny, "--steps", 1, "--seed", 7)
    assert [rein(*call).last.name for _ in range(3)] == ["owl-7.png", "owl-7-1.png", "owl-7-2.png"]
    assert [str(rein(*call, "-o", "owl.png").last) for _ in range(2)] == ["owl.png", "owl-1.png"]
    rein(*call, "-o", "owl.png", "--count", 2)
    assert sorted(path.name for path in Path().glob("*.png")) == ["owl-1.png", "owl-2.png", "owl-3.png", "owl.png"]


def test_a_sheet_has_all_pictures_and_the_settings(rein: Run, tiny: str) -> None:
    done = rein("generate", "owl", "-m", tiny, "--steps", 1, "--seed", 7, "-n", 4, "--grid", "-o", "owl.png")
    assert done.last == Path("owl-sheet.png")
    sheet = read_image("owl-sheet.png")
    for place, (left, top) in enumerate(((4, 4), (40, 4))):
        part = sheet.crop((left, top, left + 32, top + 32))
        assert part.tobytes() == read_image(f"owl-{place + 1}.png").tobytes()
    settings = request_in(Path("owl-sheet.png"))
    assert (settings["prompt"], settings["seed"], settings["count"]) == ("owl", 7, 4)


def test_json_is_one_object_and_nothing_else(rein: Run, tiny: str) -> None:
    done = rein("generate", "owl", "-m", tiny, "--steps", 1, "--seed", 7, "-n", 2, "--grid", "--json")
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    assert told["paths"] == ["pictures/owl-7.png", "pictures/owl-8.png"]
    assert told["seeds"] == [7, 8]
    assert told["sheet"] == "pictures/owl-7-sheet.png"
    assert told["complete"] is True
    assert 0 < told["seconds"] < 60
    assert told["settings"]["request"]["count"] == 2
    assert told["settings"]["model"]["name"] == "small-pocket"


@pytest.mark.parametrize("prompt", ["", " ", "  \n ", "🦉 \x00 [bold]", "\udcff\udcfe", "-"])
def test_strange_prompts_work(
    rein: Run, tiny: str, prompt: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"from stdin\n")))
    done = rein("generate", prompt, "-m", tiny, "--steps", 1, "--grid", "--seed", 3, "-o", str(tmp_path))
    assert (done.code, done.err) == (0, "")
    path = Path(done.out.splitlines()[0].removeprefix("seed 3: "))
    shown = "from stdin" if prompt == "-" else prompt.replace("\udcff\udcfe", "\ufffd\ufffd")
    assert request_in(path)["prompt"] == shown


def test_a_prompt_from_a_file(rein: Run, tiny: str) -> None:
    Path("words.txt").write_bytes("\ufeffein Käse\r\n".encode())
    done = rein("generate", "--prompt-file", "words.txt", "-m", tiny, "--steps", 1)
    assert request_in(done.last)["prompt"] == "ein Käse"


@pytest.mark.parametrize("words", ["a" * 10**6, "red apple " * 10**5, "a" * 2**20], ids=["word", "words", "longer"])
def test_a_prompt_of_a_megabyte_does_not_hang(rein: Run, tiny: str, words: str) -> None:
    """It comes from a file, because an argument cannot be so long. All of it is read before it is refused."""
    Path("words.txt").write_text(words)
    began = time.process_time()
    done = rein("generate", "--prompt-file", "words.txt", "--model", tiny)
    assert time.process_time() - began < 20
    assert (done.code, done.out) == (2, "")
    assert re.match(r"rein: error: (a prompt of [0-9,]+ (tokens|letters) is too long|prompt is 'aaa)", done.err)
    assert done.err.count("\n") == 1


def test_an_endless_prompt_is_refused(rein: Run, tiny: str) -> None:
    done = rein("generate", "--prompt-file", "/dev/zero", "-m", tiny)
    assert (done.code, done.out) == (2, "")
    assert done.err == "rein: error: the prompt from '/dev/zero' is longer than 4,194,304 bytes: shorten it\n"


REFUSED = {
    "--steps 0": "steps is 0: it must be a whole number from 1 to 1000",
    "--steps 1001": "steps is 1001:",
    "--steps many": "Invalid value for '--steps': 'many' is not a whole number (see rein generate --help)",
    "--steps 2.5": "Invalid value for '--steps': '2.5' is not a whole number",
    "--steps nan": "Invalid value for '--steps': 'nan' is not a whole number",
    "--guidance nan": "guidance_scale is nan: it must be a number from 0 to 100",
    "--guidance inf": "guidance_scale is inf:",
    "--guidance -0.1": "guidance_scale is -0.1:",
    "--guidance 100.1": "guidance_scale is 100.1:",
    "--guidance x": "Invalid value for '--guidance': 'x' is not a number",
    "--seed -1": "seed is -1: it must be a whole number from 0 to 9223372036854775807",
    f"--seed {2**63}": "seed is 9223372036854775808:",
    f"--seed {2**63 - 1} --count 2": "seed is 9223372036854775807: with 2 pictures it may be at most",
    "--count 0": "count is 0: it must be a whole number from 1 to 1000",
    "--width 0": "width is 0: it must be a whole number of pixels from 16 to 4096",
    "--width 33": "width is 33: model 'small-pocket' needs a multiple of 8 pixels; use 32 or 40",
    "--height 4104": "height is 4104:",
    "--sampler eulr": "unknown sampler 'eulr': did you mean 'euler'",
    "--schedule karas": "unknown spacing 'karas': did you mean 'karras'? Known: align_your_steps,",
    "--device tpu": "unknown device 'tpu': did you mean 'cpu'?",
    "--dtype float17": "unknown number format 'float17': did you mean 'float",
    "--output owl.gif": "output is 'owl.gif': pictures are written as PNG, JPEG or WebP",
    "--output owl.png --format jpeg": "output is 'owl.png': format jpeg needs a name that ends in .jpg",
    "--format bmp": "unknown picture format 'bmp'",
    "--quality 80": "quality is 80: PNG files have none",
    "--format webp --quality 101": "quality is 101: it must be a whole number from 1 to 100",
    "--model pockt": "unknown model 'pockt': did you mean 'pocket'?",
    "--model .": ". has no model.json, so it is no model folder",
    "--prompt-file x": "there are two prompts: give PROMPT",
    "--stepps 3": "No such option: --stepps",
}


@pytest.mark.parametrize("options", REFUSED)
def test_a_wrong_call_is_one_line_and_exit_code_2(rein: Run, tiny: str, options: str) -> None:
    done = rein("generate", "owl", "--model", tiny, *options.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"rein: error: {REFUSED[options]}")
    assert done.err.count("\n") == 1
    assert list(Path().rglob("*.png")) == []


def test_no_prompt_is_a_wrong_call(rein: Run, tiny: str) -> None:
    done = rein("generate", "--model", tiny)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("rein: error: there is no prompt: give PROMPT")


@pytest.mark.parametrize(
    ("content", "reason"), [(b"\xff\xfe", "is not UTF-8 text: save it as UTF-8"), (None, "No such file or directory")]
)
def test_a_prompt_file_that_cannot_be_read(rein: Run, tiny: str, content: bytes | None, reason: str) -> None:
    if content is not None:
        Path("words.txt").write_bytes(content)
    done = rein("generate", "--prompt-file", "words.txt", "--model", tiny)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("rein: error: ")
    assert "'words.txt'" in done.err
    assert done.err.endswith(f"{reason}\n")


def test_a_place_that_cannot_be_written_is_refused_before_the_model_is_loaded(rein: Run) -> None:
    Path("file").touch()
    done = rein("generate", "owl", "--model", "no such model", "--output", "file/owl.png")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("rein: error: cannot write file/owl.png: part of the path is a file")


@pytest.mark.parametrize("damage", ["cut", "garbled", "missing"])
def test_a_damaged_weight_file(rein: Run, tiny: str, damage: str) -> None:
    folder = Path("model")
    folder.mkdir()
    for path in Path(tiny).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = folder / "unet.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100] if damage == "cut" else content[:50] + b"\0\0" + content[52:])
    if damage == "missing":
        weights.unlink()
    done = rein("generate", "owl", "--model", folder)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("rein: error: ")
    assert "unet.safetensors" in done.err
    assert done.err.count("\n") == 1


def test_a_full_disk_keeps_what_is_finished(process: Run, tiny: str, tmp_path: Path) -> None:
    """The system refuses files over 70,000 bytes, as a full disk would: the pictures fit, their sheet does not."""

    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, 70_000))

    call = (
        "generate",
        "owl",
        "-m",
        tiny,
        "--steps",
        1,
        "--width",
        128,
        "--height",
        128,
        "-n",
        6,
        "--seed",
        1,
        "--grid",
    )
    done = process(*call, "-o", "out", preexec_fn=small_files_only)
    assert done.code == 1
    assert done.err.startswith("rein: error: cannot write out/owl-1-sheet.png: ")
    assert done.err.count("\n") == 1
    assert done.out.splitlines() == [f"seed {seed}: out/owl-{seed}.png" for seed in range(1, 7)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"owl-{seed}.png" for seed in range(1, 7)]
    assert all(Image.open(path).getbbox() for path in (tmp_path / "out").iterdir())

    done = process(*call, "-o", "out", "--json", preexec_fn=small_files_only)
    assert done.code == 1
    assert len(json.loads(done.out)["paths"]) == 6
    assert json.loads(done.out)["complete"] is False


def test_help_states_the_ranges_and_names(rein: Run) -> None:
    text = " ".join(rein("generate", "--help").out.split())
    for name in (*SAMPLERS, *SPACINGS):
        assert name in text
    assert f"Sampling steps, 1 to {fields.MAX_STEPS}." in text
    assert f"Pictures, 1 to {fields.MAX_COUNT}," in text
    assert f"Pixels, {fields.MIN_SIDE} to {fields.MAX_SIDE}," in text
    assert f"0 to {fields.MAX_GUIDANCE:g};" in text
    assert "[default: 20; of few-step models 4]" in text
    assert SD15.default_steps == 20
    assert 'rein generate "a red apple, flat style"' in text


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    """Pydantic is left out of the list: Typer itself imports it to read a command's options."""
    code = (
        "import sys; from rein.cli.app import run\n"
        "for command in ('generate', 'train', 'models', 'evaluate'): run([command, '--help'])\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, check=True)
    heavy = {"torch", "numpy", "PIL", "tokenizers", "rich", "accelerate"}
    assert not heavy & set(done.stderr.split())
    assert done.stdout.count("Usage: rein") == 4
    assert list(tmp_path.iterdir()) == []


def test_help_of_a_command_answers_at_once(process: Run) -> None:
    """It takes about 0.25 s, half of it Typer's import of pydantic."""

    def answer() -> None:
        assert process("generate", "--help").code == 0

    assert min(processor_seconds(answer) for _ in range(3)) < 0.8


def test_any_field_of_a_request_can_be_set(rein: Run, tiny: str) -> None:
    options = ("generate", "owl", "--model", tiny, "--steps", 2, "--seed", 7)
    done = rein(*options, "--sampler", "euler", "--set", "s_churn=2", "--set", "guidance_rescale=0.5", "--json")
    request = json.loads(done.out)["settings"]["request"]
    assert (request["s_churn"], request["guidance_rescale"]) == (2, 0.5)
    wrong = {"s_churn": "write NAME=VALUE", "s_chrn=2": "did you mean 's_churn'", "rho=x": "rho is 'x'"}
    for entry, reason in wrong.items():
        refused = rein(*options, "--set", entry)
        assert refused.code == 2
        assert reason in refused.err


def test_a_plan_says_what_it_takes_and_draws_nothing(rein: Run, tiny: str) -> None:
    done = rein("generate", "owl", "--model", tiny, "--steps", 3, "--plan", "--output", "owl.png")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert [line.split("  ")[0] for line in lines[:-1]] == ["words", "3 steps at 32 x 32", "decode 32 x 32"]
    assert re.fullmatch(r"in all: [\d.]+ s, [\d.]+ [GM]B of [\d.]+ [GM]B, measured at 32 x 32", lines[-1])
    assert not Path("owl.png").exists()
    found = json.loads(rein("generate", "owl", "--model", tiny, "--steps", 3, "--plan", "--json").out)
    assert found["fits"] is True and found["seconds"] > 0 and found["advice"] == []


def test_jpeg_and_webp(rein: Run, tiny: str) -> None:
    for options, name in ((("--output", "owl.jpg"), "owl.jpg"), (("--format", "webp", "--output", "."), "owl-7.webp")):
        done = rein("generate", "owl", "--model", tiny, "--steps", 2, "--seed", 7, *options, "--quality", 95)
        assert (done.code, done.last) == (0, Path(name)), done.err
        assert read_texts(name)["parameters"].startswith("owl\nSteps: 2")
    Path("long.txt").write_text("an" + " " * 40_000 + "owl")
    done = rein("generate", "--prompt-file", "long.txt", "--model", tiny, "--steps", 1, "--output", "long.jpg")
    assert done.code == 0, done.err
    assert "note: the settings are longer than a JPEG file can hold" in done.out
    assert read_image("long.jpg").size == (32, 32)


def test_a_sheet_that_no_webp_file_holds_is_refused_before_anything_is_drawn(rein: Run, tiny: str) -> None:
    done = rein(
        *("generate", "owl", "-m", tiny, "--count", 1000, "--grid", "--width", 512, "--height", 16, "--seed", 1),
        *("--steps", 1, "-o", "owl.webp"),
    )
    assert done.code == 2
    assert "cannot write owl-sheet.webp: it would be 16516 x " in done.err and "choose png" in done.err
    assert not list(Path().iterdir())
