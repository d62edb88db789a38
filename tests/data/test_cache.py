from pathlib import Path

import numpy as np
import pytest

from rein.data.cache import composed
from rein.data.compose import ArtDataset
from tests.data.drawings import drawn_options


@pytest.mark.parametrize("processes", [1, 2])
def test_stored_pictures_are_those_of_the_dataset(processes: int, tmp_path: Path) -> None:
    dataset = ArtDataset(drawn_options(tmp_path))
    stored = composed(dataset, 20, processes)
    assert stored.shape == (20, 32, 32, 3)
    assert all(np.array_equal(stored[index], dataset.picture(index).pixels) for index in range(20))


def test_they_are_made_once_and_again_when_the_words_change(tmp_path: Path) -> None:
    options = drawn_options(tmp_path)
    composed(ArtDataset(options), 5)
    composed(ArtDataset(options), 5)
    assert len(list(tmp_path.glob("pictures-*.npy"))) == 1
    (tmp_path / "concepts.txt").write_text((tmp_path / "concepts.txt").read_text().replace("coin", "penny"))
    composed(ArtDataset(options), 5)
    assert len(list(tmp_path.glob("pictures-*.npy"))) == 2
