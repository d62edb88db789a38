"""Names in a prompt find files in one folder, and nothing outside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from rein.errors import InputError
from rein.formats.named import files_by_name, named_file
from rein.formats.tensors import write_tensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "loras"
    for name in ("cat.safetensors", "notes.txt", "animals/dog.pt", "animals/cat v1.5.ckpt", "twice.pt", "a/twice.bin"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    (tmp_path / "secret.safetensors").write_bytes(b"")
    return root


def _found(name: str, folder: Path) -> Path:
    return named_file(name, files_by_name(folder), "lora", "--lora-folder").relative_to(folder)


def test_names_with_and_without_their_folder(folder: Path) -> None:
    assert _found("cat", folder) == Path("cat.safetensors")
    assert _found("dog", folder) == _found("animals/dog", folder) == Path("animals/dog.pt")
    assert _found("cat v1.5", folder) == Path("animals/cat v1.5.ckpt")
    assert _found("a/twice", folder) == Path("a/twice.bin")


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "animals/../../secret",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a//b",
        "C:\\x",
        "C:x",
        "..\\secret",
        "a\0",
        "./cat",
    ],
)
def test_paths_are_no_names(name: str, folder: Path) -> None:
    with pytest.raises(InputError, match="is no name: give that of a file in the folder of --lora-folder"):
        _found(name, folder)


def test_unknown_names_and_those_of_several_files(folder: Path) -> None:
    with pytest.raises(InputError, match="unknown lora 'cta'.*did you mean 'cat'"):
        _found("cta", folder)
    with pytest.raises(InputError, match="unknown lora 'notes'"):
        _found("notes", folder)
    with pytest.raises(InputError, match="the name of 2 files"):
        _found("twice", folder)
    with pytest.raises(InputError, match="there is no folder"):
        files_by_name(folder / "none")


def test_a_title_serves_where_no_file_has_the_name(folder: Path) -> None:
    write_tensors(folder / "v2-000010.safetensors", {"x": torch.ones(1)}, {"ss_output_name": "fine style"})
    write_tensors(folder / "other.safetensors", {"x": torch.ones(1)}, {"ss_output_name": "cat"})
    assert _found("fine style", folder) == Path("v2-000010.safetensors")
    assert _found("cat", folder) == Path("cat.safetensors")


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_out_of_the_folder_lead_nowhere(folder: Path) -> None:
    (folder / "link.safetensors").symlink_to(folder.parent / "secret.safetensors")
    (folder / "near.safetensors").symlink_to(folder / "cat.safetensors")
    (folder / "up").symlink_to(folder.parent, target_is_directory=True)
    assert {"link", "secret", "up/secret"} & files_by_name(folder).keys() == set()
    assert _found("near", folder) == Path("near.safetensors")
