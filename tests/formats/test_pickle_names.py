"""What calls in a pickle stand for, where whole files of the kind are rare."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchmetrics.functional.image import lpips

from rein.formats.pickle_names import called
from rein.formats.pickle_tensors import Name, RefusedPickleError
from rein.formats.weights import open_weights

ORDERED = Name("collections", "OrderedDict")


def test_a_table_that_python_2_wrote_is_made_of_pairs() -> None:
    pairs: list[object] = [["a", 1], ("b", 2)]
    assert called(ORDERED, (pairs,)) == {"a": 1, "b": 2}
    # The same list again gives nothing: a file that asks a million times does not get a million copies.
    assert called(ORDERED, (pairs,)) == {}


@pytest.mark.parametrize("pair", [["a"], ["a", 1, 2], "ab", [[], 1], 3])
def test_a_table_of_anything_else_is_refused(pair: object) -> None:
    with pytest.raises(RefusedPickleError, match="a table made of what are not keys and values"):
        called(ORDERED, ([pair],))


@pytest.mark.parametrize("name", ["alex", "vgg"])
def test_the_published_weights_of_lpips_are_read(name: str) -> None:
    """They were saved by Python 2, in PyTorch's old format and from a GPU."""
    path = Path(lpips.__file__).parent / "lpips_models" / f"{name}.pth"
    expected = torch.load(path, map_location="cpu", weights_only=True)
    weights = open_weights(path)
    assert list(weights) == list(expected)
    assert all(torch.equal(weights.read(key), value) for key, value in expected.items())
