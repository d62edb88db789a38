"""What holds for every test: no network, and generated examples that are the same on each run."""

import os
import socket
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

# The peers that tests compare with (diffusers, transformers) would otherwise ask their hub for files.
os.environ["HF_HUB_OFFLINE"] = "1"

hypothesis.settings.register_profile("rein", deadline=None, derandomize=True, database=None, max_examples=60)
hypothesis.settings.load_profile("rein")


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Let tests reach this machine only."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address}: tests use no network")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", local_only)
        yield
