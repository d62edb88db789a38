"""The embedded depth form: whole, small, and it puts what it draws where the map says."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rein.formats.embedded import EMBEDDED, embedded_folder
from rein.formats.folder import read_description
from rein.formats.inspect import inspect_folder
from rein.nn.specs import POCKET_DEPTH
from rein.pipeline.model import Model, load

NAME = "pocket-depth"


@pytest.fixture(scope="module")
def model() -> Model:
    return load(NAME)


def drawn_at(model: Model, path: Path, left: int) -> tuple[float, float]:
    """The middle of what is drawn when a blob 64 pixels wide is near at `left`, as fractions (across, down)."""
    rows, columns = np.mgrid[:128, :128]
    near = ((columns - left - 32) / 32) ** 2 + ((rows - 64) / 40) ** 2 <= 1
    Image.fromarray(near.astype(np.uint8) * 255).save(path)
    result = model.generate("a red apple, flat style", seed=3, steps=8, depth_image=path)
    darker = 255.0 - np.asarray(result.images[0]).min(axis=2)
    return float((darker * columns).sum() / darker.sum() / 128), float((darker * rows).sum() / darker.sum() / 128)


def test_it_holds_its_unet_alone() -> None:
    folder, description = embedded_folder(NAME), read_description(embedded_folder(NAME))
    assert NAME in EMBEDDED and description.spec == POCKET_DEPTH
    assert [path.name for path in folder.glob("*.safetensors")] == ["unet.safetensors"]
    assert (folder / "unet.safetensors").stat().st_size <= 28e6
    assert {record.of for record in description.files.values()} == {"", "pocket"}
    assert not inspect_folder(folder).problems


def test_the_rest_is_pockets(model: Model) -> None:
    mine, base = model.parts, load("pocket").parts
    for own, lent in ((mine.autoencoder, base.autoencoder), (mine.towers[0], base.towers[0])):
        assert all(bool((a == b).all()) for a, b in zip(own.parameters(), lent.parameters(), strict=True))
    assert model.weights_hash not in ("", base.weights_hash)


@pytest.mark.slow
def test_the_thing_stands_where_the_map_says(model: Model, tmp_path: Path) -> None:
    left, right = (drawn_at(model, tmp_path / f"{place}.png", place) for place in (0, 64))
    assert left[0] < 0.36 and right[0] > 0.64
    assert all(0.35 < middle[1] < 0.65 for middle in (left, right))
