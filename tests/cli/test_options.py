"""The shared options: what each sets, and that commands which take them mean the same."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, get_args

import pytest
import typer

import rein.cli  # noqa: F401 - registers the commands
from rein.cli.app import app
from rein.cli.options import MODEL, OPTIONS, REQUEST, WORDS, Given, request_fields, takes, without
from rein.errors import InputError
from rein.pipeline.model import load
from rein.pipeline.request import Request

DEFAULTS = {name: OPTIONS[name].default for name in REQUEST} | {"prompt": "an owl"}


def test_options_left_alone_are_a_plain_request() -> None:
    """An option's default is that of its field, and no field is misspelt."""
    assert Request.model_validate(request_fields(DEFAULTS)) == Request(prompt="an owl")


def test_every_option_of_a_request_changes_it() -> None:
    plain = request_fields(DEFAULTS)
    given: dict[str, Any] = {
        "style": ["photo"],
        "lora": ["a.safetensors:0.5"],
        "embedding": ["b.pt"],
        "rare": ["eta=1"],
    }
    given |= {"outpaint": "left=8"}
    for name in without(REQUEST, *WORDS):
        changed = request_fields(DEFAULTS | {name: given.get(name, "changed")})
        assert sum(changed[field] != plain.get(field) for field in changed) == 1, name


def test_a_setting_goes_before_an_option() -> None:
    assert request_fields(DEFAULTS | {"rare": ["steps=3"]})["steps"] == 3


def test_fields_of_options_that_a_command_lacks_are_left_to_the_request() -> None:
    assert request_fields({"seed": 7, "width": None}) == {"seed": 7, "width": None}


def test_a_command_gets_what_it_takes() -> None:
    found: dict[str, object] = {}

    @takes("seed", *MODEL)
    def command(*, own: Annotated[int, typer.Option()] = 1, given: Given) -> None:
        """What it does."""
        found.update(given, own=own)

    assert list(inspect.signature(command).parameters) == ["own", "seed", *MODEL]
    assert command.__doc__ == "What it does."
    small = typer.Typer()
    small.command()(command)
    typer.main.get_command(small).main(["--seed", "7", "-m", "other", "--own", "3"], standalone_mode=False)
    assert found == {"own": 3, "seed": 7, "model": "other", "vae": None, "prediction": None, "ema": False} | {
        "variant": None
    }


def test_the_options_of_a_model_are_those_of_load() -> None:
    known = inspect.signature(load).parameters
    assert [name for name in known if name not in ("source", "device", "dtype")] == list(without(MODEL, "model"))


@pytest.mark.parametrize("name", ["generate", "sheet", "interpolate", "upscale", "batch", "replay"])
def test_options_of_one_name_are_alike_in_all_commands(name: str) -> None:
    """A default that differs from the table's is the command's own."""
    own = {"upscale": {"tile", "strength", "upscaler", "prompt"}, "replay": {"model"}}
    command: Any = typer.main.get_command(app)
    parameters = {entry.name: entry for entry in command.commands[name].params}
    shared = (set(parameters) & set(OPTIONS)) - own.get(name, set())
    assert len(shared) >= 6
    for option in shared:
        assert parameters[option].default == OPTIONS[option].default, option
        [declared] = [entry for entry in get_args(OPTIONS[option].kind) if hasattr(entry, "help")]
        assert parameters[option].help.startswith(declared.help[:40]), option


def test_what_is_no_option_is_refused() -> None:
    with pytest.raises(InputError, match="NAME=VALUE"):
        request_fields({"rare": ["eta"]})
