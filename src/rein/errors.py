"""Every error that Rein raises on purpose, and the two helpers that word them.

    Exception
    └── ReinError               exit 1   the work failed
        ├── InputError          exit 2   the call was wrong: a range, a name, a type, a file that is not there
        ├── MissingExtraError   exit 2   an optional package is not installed
        ├── DamagedFileError    exit 1   weights or a picture that cannot be read
        ├── OutputError         exit 1   a place that cannot be written, a full disk
        ├── NonFiniteError      exit 1   NaN or infinity in a loss or a picture
        └── InterruptedWork     exit 1   stopped before the end; the message says what is kept (130 on the command line)

The message of each is one line for a person: which field, its value, what is allowed, what to do. Python's own errors
(`ValueError`, `AssertionError`, ...) are left for mistakes in the code.
"""

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import ClassVar


class ReinError(Exception):
    """The work failed. The message is one line; `exit_code` is what the command line ends with."""

    exit_code: ClassVar[int] = 1


class InputError(ReinError):
    """The call was wrong and would be wrong again: a value out of range, an unknown name, a file that is not there."""

    exit_code = 2


class MissingExtraError(ReinError):
    """An optional package is needed and is not installed; the message says which extra brings it."""

    exit_code = 2

    def __init__(self, extra: str, package: str) -> None:
        super().__init__(extra, package)  # both kept as arguments, so that the error survives pickling
        self.extra = extra
        self.package = package

    def __str__(self) -> str:
        return f"this needs the package {self.package}, which is not installed: pip install 'rein[{self.extra}]'"


class DamagedFileError(ReinError):
    """A file of weights or a picture is there and cannot be read as what it should be."""


class OutputError(ReinError):
    """A file cannot be written: no permission, a full disk, a folder where a file should go."""


class NonFiniteError(ReinError):
    """NaN or infinity came out of a network: in a loss, a latent or a picture."""


class InterruptedWork(ReinError):  # noqa: N818 - not an error of anyone's
    """The work was stopped before its end. The message says what was finished and is kept."""


def require(package: str, extra: str) -> ModuleType:
    """Import an optional package, `package` being its import name, or say which extra brings it.

    Raises:
        MissingExtraError: the package is not installed.
        ReinError: it is installed and fails to import.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is not None and (package + ".").startswith(error.name + "."):
            raise MissingExtraError(extra=extra, package=package) from error
        raise ReinError(f"the package {package} is installed and does not import: {error}") from error
    except ImportError as error:
        raise ReinError(f"the package {package} is installed and does not import: {error}") from error


def quoted(value: object, limit: int = 60) -> str:
    """`value` as it is shown in a message: its repr, on one line, at most about `limit` characters."""
    text = value[: limit + 1] if isinstance(value, str) else value
    shown = repr(text).replace("\n", " ")
    return shown if len(shown) <= limit else shown[:limit] + "..."


def nearest(name: str, choices: Iterable[str], limit: int = 24) -> str:
    """The end of an "unknown name" message: the nearest choice where one is near, and the known ones.

    `f"unknown sampler {quoted(name)}: {nearest(name, SAMPLERS)}"` reads
    "unknown sampler 'eulr': did you mean 'euler'? Known: ddim, ddpm, euler". Of more than `limit` choices only the
    number is given, after the nearest three.
    """
    known = sorted(choices)
    by_lower = {choice.lower(): choice for choice in known}
    close = [by_lower[match] for match in difflib.get_close_matches(name[:80].lower(), by_lower, n=3, cutoff=0.6)]
    listed = ", ".join(known) if len(known) <= limit else f"{len(known)} names"
    if not close:
        return f"known: {listed or 'none'}"
    suggestions = [repr(choice) for choice in (close[:1] if len(known) <= limit else close)]
    return f"did you mean {' or '.join(suggestions)}? Known: {listed}"
