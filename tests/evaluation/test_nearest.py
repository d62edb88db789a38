import numpy as np
import pytest
from PIL import Image

from rein.evaluation.nearest import SHIFTS, Nearest, closeness, nearest, nearest_sheet, thumbnails


def last(queries: np.ndarray, training: np.ndarray) -> Nearest:
    *_, found = nearest(queries, training)
    assert found.compared == len(training)
    return found


def noise(count: int, seed: int, side: int = 64) -> np.ndarray:
    """Smooth pictures, white round the edge."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 3)).astype(np.uint8)
    pictures = np.full((count, side, side, 3), 255, dtype=np.uint8)
    inner = side - 16
    for picture, part in zip(pictures, coarse, strict=True):
        picture[8:-8, 8:-8] = np.array(Image.fromarray(part).resize((inner, inner), Image.Resampling.BILINEAR))
    return pictures


def test_equal_to_the_definition_written_out() -> None:
    queries, training = noise(5, 1), noise(2100, 2)
    found = last(queries, training)
    small, known = thumbnails(queries).numpy(), thumbnails(training).numpy()
    for place in range(5):
        padded = np.pad(small[place], ((0, 0), (1, 1), (1, 1)), mode="edge")
        tables = []
        for down, across in SHIFTS:
            moved = padded[:, 1 + down : 33 + down, 1 + across : 33 + across]
            tables.append(np.sqrt(((known - moved) ** 2).mean(axis=(1, 2, 3))))
        table = np.min(tables, axis=0)
        assert found.places[place] == table.argmin()
        assert found.distances[place] == pytest.approx(table.min(), abs=1e-4)


def test_a_copy_a_moved_copy_and_another_picture() -> None:
    training = noise(40, 3)
    moved = np.full_like(training[7], 255)
    moved[2:, :-2] = training[7][:-2, 2:]  # two pixels of 64 are one of 32
    found = last(np.stack([training[5], moved, noise(1, 4)[0]]), training)
    assert found.places[:2].tolist() == [5, 7]
    assert found.distances[0] < 1e-3 and found.distances[1] < 1e-3
    assert found.distances[2] > 0.05


def test_black_against_white_is_one() -> None:
    black, white = np.zeros((1, 64, 64, 3), np.uint8), np.full((1, 64, 64, 3), 255, np.uint8)
    assert last(black, white).distances.tolist() == [1.0]


def test_closeness() -> None:
    found = closeness("real", np.array([0.1, 0.2, 0.3, 0.4, 0.5], dtype=np.float32), 0.25)
    assert found.quantiles[0] == pytest.approx(0.1) and found.quantiles[50] == pytest.approx(0.3)
    assert (found.near_copies.right, found.near_copies.total) == (2, 5)


def test_the_sheet_begins_with_the_nearest() -> None:
    training, queries = noise(6, 5), noise(3, 6)
    queries[2] = training[4]
    sheet = nearest_sheet(queries, ["one", "two", "three"], training, last(queries, training), pairs=2)
    cells = np.array(sheet)
    assert np.array_equal(cells[4:68, 4:68], training[4]) and np.array_equal(cells[4:68, 72:136], training[4])
