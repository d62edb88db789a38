"""The exception tree and the wording of messages."""

import pickle
import sys
from pathlib import Path

import pytest

from rein import errors
from rein.errors import InputError, MissingExtraError, ReinError, nearest, quoted, require


def subclasses(kind: type[ReinError]) -> list[type[ReinError]]:
    return [kind, *(deeper for sub in kind.__subclasses__() for deeper in subclasses(sub))]


def test_the_tree_in_the_docstring_is_the_tree_in_the_code() -> None:
    drawn = {}
    for line in (errors.__doc__ or "").splitlines():
        name, found, rest = line.strip("│├└─ ").partition(" ")
        if found and "exit " in rest:
            drawn[name] = int(rest.split("exit ")[1][0])
    assert drawn == {kind.__name__: kind.exit_code for kind in subclasses(ReinError)}


def test_a_missing_extra_says_what_to_install_and_survives_pickling() -> None:
    with pytest.raises(MissingExtraError) as caught:
        require("rein_no_such_package.part", "train")
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert error.exit_code == 2
        assert "rein_no_such_package.part" in str(error)
        assert "pip install 'rein[train]'" in str(error)


def test_a_package_that_is_there_is_returned() -> None:
    assert require("json", "train") is sys.modules["json"]


def test_a_package_that_is_broken_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rein_broken_one.py").write_text("import rein_not_there_at_all")
    (tmp_path / "rein_broken_two.py").write_text("from json import no_such_name")
    monkeypatch.syspath_prepend(tmp_path)
    for package in ("rein_broken_one", "rein_broken_two"):
        with pytest.raises(ReinError, match=f"{package} is installed and does not import") as caught:
            require(package, "train")
        assert not isinstance(caught.value, MissingExtraError)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("eulr", "did you mean 'euler'? Known: DDIM, ddpm, euler"),
        ("ddin", "did you mean 'DDIM'? Known: DDIM, ddpm, euler"),
        ("xyz", "known: DDIM, ddpm, euler"),
        ("", "known: DDIM, ddpm, euler"),
    ],
)
def test_the_nearest_name_is_offered(name: str, expected: str) -> None:
    assert nearest(name, {"euler", "ddpm", "DDIM"}) == expected


def test_of_many_names_only_the_nearest_are_listed() -> None:
    message = nearest("word13", [f"word{index}" for index in range(500)])
    assert message.startswith("did you mean 'word13' or ")
    assert message.endswith("Known: 500 names")
    assert nearest("a", []) == "known: none"


def test_a_huge_name_costs_and_shows_little() -> None:
    assert nearest("x" * 10_000_000, ["euler"]) == "known: euler"
    assert len(quoted("x" * 10_000_000)) < 70
    assert len(quoted(list(range(1000)))) < 70
    assert quoted("two\nlines") == r"'two\nlines'"


def test_errors_are_caught_as_one_kind() -> None:
    with pytest.raises(ReinError, match="steps is 0"):
        raise InputError("steps is 0: it must be from 1 to 1000")
