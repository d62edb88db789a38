"""The safetensors reader and writer, beside the safetensors package, and against files made to mislead."""

import contextlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from rein.errors import DamagedFileError, InputError, OutputError
from rein.formats.header import HEADER_LIMIT, NAME_LIMIT, STATE_LIMIT, TENSOR_LIMIT, name_problem
from rein.formats.tensors import read_header, read_tensors, write_tensors

TYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int16,
    torch.float16,
    torch.bfloat16,
    torch.int32,
    torch.float32,
    torch.int64,
    torch.float64,
]


def sample(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return (torch.arange(int(torch.tensor(shape).prod())).reshape(shape) % 5 - 1).to(dtype)


def samples() -> dict[str, torch.Tensor]:
    """Every type, a scalar, an empty tensor, a transposed one, and names outside ASCII."""
    tensors = {str(dtype): sample(dtype, 3, 5) for dtype in TYPES}
    extras = {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4), "": torch.ones(1), "névé/☃": torch.ones(2)}
    return tensors | extras | {"transposed": torch.arange(6.0).reshape(2, 3).T}


def raw(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and torch.equal(one[name].float(), other[name].float())
        for name in one
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("properties")


def test_what_is_written_is_read_by_us_and_by_the_reference(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, samples(), {"b": "two", "a": "one"})
    assert same(read_tensors(path), samples())
    assert same(safetensors.torch.load_file(path), samples())
    assert read_header(path).metadata == {"a": "one", "b": "two"}


def test_what_the_reference_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {name: tensor.contiguous() for name, tensor in samples().items()}
    safetensors.torch.save_file(tensors, path, {"format": "pt"})
    assert same(read_tensors(path), tensors)
    assert read_header(path).metadata == {"format": "pt"}


@given(
    st.dictionaries(
        st.text(max_size=8).filter(lambda name: name_problem(name) is None),
        st.tuples(st.sampled_from(TYPES), st.lists(st.integers(0, 4), max_size=4)),
        max_size=6,
    )
)
def test_any_contents_survive_and_the_reference_agrees(
    folder: Path, contents: dict[str, tuple[torch.dtype, list[int]]]
) -> None:
    path = folder / "any.safetensors"
    tensors = {name: sample(dtype, *shape) for name, (dtype, shape) in contents.items()}
    write_tensors(path, tensors)
    assert same(read_tensors(path), tensors)
    assert same(safetensors.torch.load_file(path), tensors)


def test_the_same_contents_give_the_same_bytes_whatever_their_order(tmp_path: Path) -> None:
    tensors = samples()
    write_tensors(tmp_path / "a", tensors, {"x": "1", "y": "2"})
    write_tensors(tmp_path / "b", dict(reversed(tensors.items())), {"y": "2", "x": "1"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_tensor_written_is_aligned(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", samples())
    for tensor in read_tensors(tmp_path / "a").values():
        assert tensor.data_ptr() % tensor.element_size() == 0


def test_a_tensor_at_an_odd_place_is_read(tmp_path: Path) -> None:
    values = torch.tensor([1.5, -2.0])
    header = {"flag": entry("BOOL", [1], [0, 1]), "values": entry("F32", [2], [1, 9])}
    (tmp_path / "a").write_bytes(raw(header, b"\1" + values.numpy().tobytes()))
    assert torch.equal(read_tensors(tmp_path / "a")["values"], values)


def test_a_file_of_ones_own_may_have_more_tensors_where_that_is_said(tmp_path: Path) -> None:
    tensors = dict.fromkeys(map(str, range(TENSOR_LIMIT + 1)), torch.zeros(1))
    write_tensors(tmp_path / "a", tensors)
    with pytest.raises(DamagedFileError, match="at most 10000 are read"):
        read_header(tmp_path / "a")
    assert len(read_header(tmp_path / "a", STATE_LIMIT).tensors) == len(tensors)
    assert len(read_tensors(tmp_path / "a", names=["7"], most=STATE_LIMIT)) == 1


def test_some_names_only(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", samples())
    assert read_tensors(tmp_path / "a", names=["scalar"]).keys() == {"scalar"}
    with pytest.raises(InputError, match="has no tensor 'scaler'"):
        read_tensors(tmp_path / "a", names=["scaler"])


def test_changing_a_tensor_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_tensors(path, {"x": torch.ones(4)})
    before = path.read_bytes()
    tensor = read_tensors(path)["x"]
    tensor.zero_()
    assert tensor.sum() == 0
    assert path.read_bytes() == before


def test_a_header_is_read_without_the_data(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_tensors(path, {"weight": torch.zeros(3, 4, dtype=torch.float16), "bias": torch.zeros(2)})
    header = read_header(path)
    assert list(header.tensors) == ["bias", "weight"]
    info = header.tensors["weight"]
    assert (info.dtype, info.shape, info.start, info.end) == ("F16", (3, 4), 8, 32)
    assert header.data_start + 32 == path.stat().st_size


MANY = {f"a.{number}": entry("F16", [2], (4 * number, 4 * number + 4)) for number in range(10_000)}
DAMAGE = {
    "empty": (b"", "it is empty"),
    "no length": (b"\1\0\0", "cut short: 3 bytes"),
    "length beyond the file": ((5000).to_bytes(8, "little") + b"{}", "cut short within its header"),
    "length beyond the limit": ((HEADER_LIMIT + 1).to_bytes(8, "little") + b"{}", "the header would have 8000001"),
    "largest length": (b"\xff" * 8 + b"{}", "the header would have 18446744073709551615"),
    "zip": (b"PK\x03\x04" + bytes(50), "PyTorch or ZIP archive, which may hold code"),
    "pickle": (pickle.dumps({"a": 1}), "Python pickle, which is code"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(50), "it is a picture"),
    "JPEG": (b"\xff\xd8\xff\xe0" + bytes(50), "it is a picture"),
    "web page": (b"<!doctype html><html></html>", "a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "not json": (raw(b"{]"), "not correct JSON"),
    "a number of 5000 digits": (raw(b'{"a":' + b"9" * 5000 + b"}"), "not correct JSON"),
    "deep json": (raw(b'{"a":' + b"[" * 200_000), "not correct JSON|at most 10000"),
    "not text": (raw(b'{"\xff":1}'), "not UTF-8"),
    "an array": (raw(b"[]"), "does not begin with"),
    "leading space": (raw(b" {}"), "does not begin with"),
    "same name twice": (raw(b'{"a":' + json.dumps(entry()).encode() + b',"a":1}', bytes(8)), "key 'a' twice"),
    "same field twice": (raw(b'{"a":{"dtype":"F32","dtype":"F32"}}', bytes(8)), "key 'dtype' twice"),
    "same name twice, written otherwise": (raw(b'{"a":1,"\\u0061":1}'), "key 'a' twice"),
    "deep json in a tensor": (raw(b'{"a":' + b'{"a":' * 100_000), "not correct JSON|at most 10000"),
    "150000 tensors": (
        raw(b"{" + b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},' * 150_000),
        "at most 10000 are read",
    ),
    "10000 tensors, the last one wrong": (raw(MANY | {"a.9999": entry("F16", [2], (39996, 40001))}), "takes 5 bytes"),
    "2 million lists": (raw(b'{"a":[' + b"[]," * 2_500_000), "at most 10000 are read"),
    "4 million numbers": (raw(b'{"a":[' + b"1," * 3_900_000), "at most 10000 are read"),
    "200000 texts": (raw(b'{"__metadata__":{' + b'"a":"",' * 200_000), "at most 10000 are read"),
    "a text without an end": (raw(b'{"a":"' + b'\\"' * 3_900_000), "not correct JSON"),
    "a path out of its folder": (raw({"../../a": entry()}, bytes(8)), "has a name that is a path"),
    "a path out of its folder, by the other slash": (raw({"a\\..\\b": entry()}, bytes(8)), "has a name that is a path"),
    "an absolute path": (raw({"/etc/passwd": entry()}, bytes(8)), "has a name that is a path"),
    "a drive": (raw({"C:\\a": entry()}, bytes(8)), "has a name that is a path"),
    "a home": (raw({"~/a": entry()}, bytes(8)), "has a name that is a path"),
    "an attribute": (raw({"x.__class__.__base__": entry()}, bytes(8)), "has a name that is an attribute of Python"),
    "an attribute alone": (raw({"__dict__": entry()}, bytes(8)), "has a name that is an attribute of Python"),
    "a new line in a name": (raw({"a\nb": entry()}, bytes(8)), "has a name that is not printable text"),
    "a zero in a name": (raw({"a\0b": entry()}, bytes(8)), "has a name that is not printable text"),
    "half a character in a name": (raw(b'{"\\ud800":1}'), "has a name that is not printable text"),
    "a long name": (raw({"a" * (NAME_LIMIT + 1): entry()}, bytes(8)), "has a name that is 1001 characters long"),
    "metadata of numbers": (raw({"__metadata__": {"a": 1}}), "metadata is not a table of texts"),
    "no dtype": (raw({"a": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8)), "not described by exactly"),
    "an extra field": (raw({"a": entry() | {"code": ""}}, bytes(8)), "not described by exactly"),
    "unknown type": (raw({"a": entry("F128")}, bytes(8)), "has the type 'F128'"),
    "type is a list": (raw({"a": entry([])}, bytes(8)), r"has the type \[\]"),
    "negative shape": (raw({"a": entry(shape=[-2])}, bytes(8)), r"has the shape \[-2\]"),
    "fractional shape": (raw({"a": entry(shape=[2.0])}, bytes(8)), r"has the shape \[2.0\]"),
    "true as a shape": (raw({"a": entry(shape=[True, 2])}, bytes(8)), "has the shape"),
    "overflow behind a zero": (raw({"a": entry(shape=[0, 2**40, 2**40], offsets=[0, 0])}), "impossible shape"),
    "wrapping shape": (raw({"a": entry(shape=[2**32, 2**32], offsets=[0, 0])}), "impossible shape"),
    "backward offsets": (raw({"a": entry(offsets=[8, 0])}, bytes(8)), "takes -8 bytes"),
    "three offsets": (raw({"a": entry(offsets=[0, 4, 8])}, bytes(8)), "not two whole numbers"),
    "negative offset": (raw({"a": entry(offsets=[-8, 0])}, bytes(8)), "not two whole numbers"),
    "too small for the shape": (raw({"a": entry(offsets=[0, 4])}, bytes(4)), "takes 4 bytes by its offsets and 8"),
    "overlap": (raw({"a": entry(), "b": entry(offsets=[4, 12])}, bytes(12)), "'b' overlaps"),
    "gap": (raw({"a": entry(), "b": entry(offsets=[12, 20])}, bytes(20)), "4 bytes of no tensor before tensor 'b'"),
    "gap at the start": (raw({"a": entry(offsets=[4, 12])}, bytes(12)), "4 bytes of no tensor before tensor 'a'"),
    "cut data": (raw({"a": entry()}, bytes(5)), "tensors have 8 bytes, of which 5 are there"),
    "data after the end": (raw({"a": entry()}, bytes(9)), "1 bytes of no tensor follow"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_refused_in_one_line_that_names_it(tmp_path: Path, kind: str) -> None:
    contents, message = DAMAGE[kind]
    path = tmp_path / "weights.safetensors"
    path.write_bytes(contents)
    for read in (read_header, read_tensors):
        with pytest.raises(DamagedFileError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_whole_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_tensors(path, {"x": torch.ones(5), "y": torch.ones(3, dtype=torch.bool)})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedFileError):
            read_header(path)


@given(st.binary(max_size=64), st.dictionaries(st.text(max_size=3), st.recursive(st.integers(), st.lists), max_size=3))
def test_noise_is_refused_or_read_and_never_anything_else(folder: Path, data: bytes, header: dict[str, Any]) -> None:
    path = folder / "noise"
    for contents in (data, raw(data), raw(header, data)):
        path.write_bytes(contents)
        with contextlib.suppress(DamagedFileError):
            read_tensors(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        read_tensors(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="is a folder"):
        read_header(tmp_path)
    with pytest.raises(InputError, match="cannot read"):
        read_header(str(tmp_path / "a\0b"))


def test_what_the_format_cannot_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for tensor in (torch.zeros(2, dtype=torch.complex128), torch.eye(2).to_sparse()):
        with pytest.raises(InputError, match="tensor 'x'"):
            write_tensors(path, {"x": tensor})
    with pytest.raises(InputError, match="__metadata__"):
        write_tensors(path, {"__metadata__": torch.ones(1)})
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="folder does not exist"):
        write_tensors(tmp_path / "folder" / "a", {"x": torch.ones(1)})
