"""Recipes that make forms and students: from a model's folder to another that draws."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rein.errors import InputError
from rein.pipeline.model import load
from rein.training.prepare import Art, compose_art
from rein.training.run import train_recipe
from tests.data.drawings import drawn_options
from tests.pipeline.small import save_small

RECIPE = """
[data]
size = 32
pictures = 12
validation_pictures = 4
[model]
start = "{start}"
"""
LOOP = """
steps = 3
batch_size = 4
learning_rate = 2e-2
warm_up = 0
ema = 0
precision = "fp32"
"""


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small(tmp_path_factory.mktemp("start"), "pocket")


@pytest.fixture(scope="module")
def art(tmp_path_factory: pytest.TempPathFactory) -> Art:
    return compose_art(drawn_options(tmp_path_factory.mktemp("art")), 12, 4)


def made(folder: Path, start: Path, stages: list[str], art: Art | None) -> Path:
    """The model folder that a recipe of these stages makes."""
    recipe = folder / "recipe.toml"
    tables = "".join(f"[[stage]]\n{stage}{LOOP}" for stage in stages)
    recipe.write_text(RECIPE.format(start=start) + tables)
    model = list(train_recipe(recipe, folder / "run", art=art))[-1].model
    assert model is not None
    return model


def test_a_depth_form_draws_by_its_map(start: Path, art: Art, tmp_path: Path) -> None:
    model = load(made(tmp_path, start, ['objective = "form"\nform = "depth"\n'], art))
    assert model.spec.form == "depth" and model.name == "small-pocket-depth"
    shown = []
    for side in ("left", "right"):
        near = np.zeros((32, 32), np.uint8)
        near[8:24, 2:14] = 255
        Image.fromarray(near if side == "left" else near[:, ::-1].copy()).save(tmp_path / f"{side}.png")
        shown.append(model.generate("a disc", seed=1, steps=3, depth_image=tmp_path / f"{side}.png").images[0])
    assert np.abs(np.asarray(shown[0]).astype(int) - np.asarray(shown[1])).max() > 3, "the map counts"


def test_an_inpainting_form_of_another_number_of_latents_draws(start: Path, art: Art, tmp_path: Path) -> None:
    model = load(made(tmp_path, start, ['objective = "form"\nform = "inpainting"\n'], art))
    assert model.spec.form == "inpainting"
    picture, mask = np.full((32, 32, 3), 200, np.uint8), np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    Image.fromarray(picture).save(tmp_path / "start.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    options = {"init_image": tmp_path / "start.png", "mask": tmp_path / "mask.png", "mask_blur": 0}
    drawn = np.asarray(model.generate("a disc", seed=1, steps=3, strength=1.0, **options).images[0])
    assert (drawn[mask == 0] == 200).all() and not (drawn[mask == 255] == 200).all()


def test_students_follow_one_another(start: Path, art: Art, tmp_path: Path) -> None:
    stages = [
        'objective = "distil"\nmethod = "progressive"\nsteps_of_student = 4\nsubsteps = 2\n',
        'objective = "distil"\nmethod = "progressive"\nsteps_of_student = 2\nsubsteps = 2\nguidance = 1.0\n',
    ]
    model = load(made(tmp_path, start, stages, art))
    assert model.name == "small-pocket-fast" and model.spec.default_guidance == 1.0
    result = model.generate("a disc", seed=1, steps=2)
    assert result.request.guidance_scale == 1.0 and result.request.sampler == "euler"


def test_a_form_is_the_end_of_its_recipe(start: Path, art: Art, tmp_path: Path) -> None:
    stages = ['objective = "form"\nform = "depth"\n', 'objective = "distil"\nmethod = "consistency"\n']
    with pytest.raises(InputError, match="a form is the end of a recipe"):
        made(tmp_path, start, stages, art)


def test_depth_of_ones_own_pictures_needs_a_model_that_sees_it(start: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(3):
        Image.new("RGB", (32, 32), (90 * number, 20, 60)).save(pictures / f"{number}.png")
    recipe = tmp_path / "recipe.toml"
    head = f'[data]\nfolder = "{pictures}"\n[model]\nstart = "{start}"\n'
    recipe.write_text(f'{head}[[stage]]\nobjective = "form"\nform = "depth"\n{LOOP}')
    with pytest.raises(InputError, match="give depth_model"):
        list(train_recipe(recipe, tmp_path / "run"))
