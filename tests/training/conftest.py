"""Training tests run on one thread of the CPU, where a run is repeated bit for bit."""

import os
from collections.abc import Iterator

import pytest
import torch

os.environ["ACCELERATE_USE_CPU"] = "1"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums over several threads may be added in another order from run to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
