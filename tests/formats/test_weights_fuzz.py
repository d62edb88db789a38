"""Mutations of good files: they are read or refused, and nothing else; what is read lies within the file."""

import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rein.errors import DamagedFileError
from rein.formats.weights import open_weights
from tests.formats.attacks_archive import archive, honest, legacy, zipped
from tests.formats.attacks_pickle import PROTO, saved, tensor, text
from tests.formats.test_weights import lightning


def written(content: object, **how: object) -> bytes:
    buffer = BytesIO()
    torch.save(content, buffer, **how)  # type: ignore[arg-type]
    return buffer.getvalue()


def good_files() -> list[bytes]:
    plain = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.ones(2, dtype=torch.float8_e5m2), "c": [1, "x", None]}
    old = {"_use_new_zipfile_serialization": False}
    files = [archive(honest()), zipped(saved()), legacy()]
    return [
        *files,
        written(plain),
        written(plain, pickle_protocol=4),
        written(plain, **old),
        written(lightning(), **old),
    ]


GOOD = good_files()
OPCODES = bytes(range(256))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "a.ckpt"


def read_all(path: Path, content: bytes) -> None:
    """Read every tensor, unless the file is refused. Nothing but `DamagedFileError` may come of it."""
    path.write_bytes(content)
    try:
        weights = open_weights(path)
    except DamagedFileError as error:
        reason = str(error)
    else:
        reason = ""
    assert "\n" not in reason and len(reason) < 600
    if reason:
        return
    for name, info in weights.infos.items():
        assert info.start >= 0 and info.start + info.span <= len(content)
        assert weights[name].shape == weights.read(name).shape == info.shape


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good file with a few bytes changed, removed, inserted or copied from elsewhere in it."""
    content = bytearray(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, len(content) - 1))
        length = draw(st.integers(0, 12))
        source = draw(st.integers(0, len(content) - 1))
        change = draw(st.sampled_from(["set", "remove", "insert", "copy", "number"]))
        if change == "set":
            content[position] = draw(st.integers(0, 255))
        elif change == "remove":
            del content[position : position + length]
        elif change == "insert":
            content[position:position] = draw(st.binary(max_size=12))
        elif change == "copy":
            content[position : position + length] = content[source : source + length]
        else:
            number = draw(st.sampled_from([0, 1, 2**31 - 1, 2**32 - 1, 2**62, 2**63, 2**64 - 1]))
            content[position : position + 8] = struct.pack("<Q", number)
    return bytes(content)


@settings(max_examples=400, deadline=None)
@given(mutated())
def test_a_mutated_file_is_read_or_refused(path: Path, content: bytes) -> None:
    read_all(path, content)


PIECES = [
    text("x"),
    tensor(),
    text("torch._utils"),
    text("_rebuild_tensor_v2"),
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch._utils\n_rebuild_parameter\n",
    b"ctorch._tensor\n_rebuild_from_type_v2\n",
    b"ccollections\nOrderedDict\n",
    b"cbuiltins\nset\n",
    b"ca.b\nClass\n",
    b"K\1",
    b"q\0",
    b"h\0",
    b"X\1\0\0\0a",
]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.sampled_from([OPCODES[i : i + 1] for i in range(256)]), max_size=30))
def test_any_opcodes_are_read_or_refused(path: Path, pieces: list[bytes]) -> None:
    """Programs of opcodes, most of them senseless, with the pieces of sensible ones in between."""
    content = PROTO + b"".join(pieces) + b"."
    for wrap in (zipped, legacy):
        wrapped: Callable[[bytes], bytes] = wrap
        read_all(path, wrapped(content))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64), st.sampled_from([b"", b"PK\3\4", b"\x80\2", legacy()[:137], GOOD[3][:200]]))
def test_noise_is_refused(path: Path, noise: bytes, start: bytes) -> None:
    path.write_bytes(start + noise)
    with pytest.raises(DamagedFileError):
        open_weights(path)
