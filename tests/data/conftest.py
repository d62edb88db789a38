"""The sixteen drawings, rendered once for all tests that only look at them."""

import pytest

from rein.data.icons import IconArt
from tests.data.drawings import drawn_options


@pytest.fixture(scope="session")
def art(tmp_path_factory: pytest.TempPathFactory) -> IconArt:
    return IconArt(drawn_options(tmp_path_factory.mktemp("art")))
