"""The pages on extending Rein, followed word for word in a copy of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from rein.formats.tensors import read_tensors
from rein.image_files import read_texts
from tests.test_docs import DOCS, ROOT

_TITLED = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```', re.MULTILINE | re.DOTALL)
_AFTER = re.compile(r"(\S+): after `(.+)`")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with a copy of Rein's sources in it, which shares its assets."""
    source, target = ROOT / "src" / "rein", tmp_path / "src" / "rein"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("assets", "__pycache__"))
    (target / "assets").symlink_to(source / "assets")
    return tmp_path


def follow(page: str, copy: Path) -> dict[str, str]:
    """Do what the titled blocks of a page say: new files, and lines after others. Gives blocks that are neither."""
    rest = {}
    for title, block in _TITLED.findall((DOCS / "extend" / f"{page}.md").read_text(encoding="utf-8")):
        if (placed := _AFTER.fullmatch(title)) is not None:
            path, line = copy / placed[1], placed[2] + "\n"
            before, found, after = path.read_text(encoding="utf-8").partition(line)
            assert found, f"{page}: {placed[1]} has no line {placed[2]!r}"
            path.write_text(before + found + block + after, encoding="utf-8")
        elif title.startswith("src/"):
            assert not (copy / title).exists(), f"{page}: {title} is there already"
            (copy / title).write_text(block, encoding="utf-8")
        else:
            rest[title] = block
    return rest


def run(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(copy / "src")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )


def test_a_sampler_is_known_by_its_name_everywhere(copy: Path) -> None:
    assert follow("sampler", copy) == {}
    words = [
        "-m",
        "rein",
        "generate",
        "a red apple, flat style",
        "--steps",
        "3",
        "--seed",
        "7",
        "--output",
        "apple.png",
    ]
    done = run(copy, *words, "--sampler", "adams_euler")
    assert done.returncode == 0, done.stderr
    assert "adams_euler" in read_texts(copy / "apple.png")["rein"]
    assert "adams_euler" in run(copy, *words, "--sampler", "adams_eulr").stderr
    assert "adams_euler, ddpm" in " ".join(run(copy, "-m", "rein", "generate", "--help").stdout.split())


def test_a_variant_is_a_row(copy: Path) -> None:
    rest = follow("variant", copy)
    done = run(copy, "-c", rest.pop("a check"))
    assert (done.stdout, rest) == ("(64, 96, 128)\n", {}), done.stderr


def test_an_objective_is_trained_by_a_recipe(copy: Path) -> None:
    rest = follow("objective", copy)
    (copy / "line.toml").write_text(rest.pop("line.toml"), encoding="utf-8")
    assert rest == {}
    (copy / "pictures").mkdir()
    for name in ("one", "two", "three"):
        Image.new("RGB", (128, 128), "white").save(copy / "pictures" / f"{name}.png")
    done = run(copy, "-m", "rein", "train", "line.toml", "--output", "runs/line")
    assert done.returncode == 0, done.stderr
    made = read_tensors(copy / "runs" / "line" / "line.safetensors")
    assert float(made["weight"]) == pytest.approx(2.0, abs=0.1)
