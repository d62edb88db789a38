"""The `rein` program: its commands, and the one place where an error becomes a line of text and an exit code.

Exit codes: 0 done, 1 the work failed, 2 the call was wrong, 130 stopped from the keyboard.
"""

from __future__ import annotations

import dataclasses
import errno
import gc
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from rein.errors import InterruptedWork, ReinError
from rein.version import __version__

INTERRUPTED = 130
"""The exit code that shells expect after Ctrl-C: 128 + SIGINT."""

app = typer.Typer(
    name="rein",
    help="Pictures from words, by latent diffusion.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # square brackets in help are meant as written
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclasses.dataclass
class Session:
    """What holds for one run of the program, whatever the command; a command finds it as its context's `obj`."""

    traceback: bool = False


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rein {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    context: typer.Context,
    show_traceback: Annotated[
        bool, typer.Option("--traceback", help="On an error, show where in the code it arose (for a bug report).")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and stop.")
    ] = False,
) -> None:
    """Pictures from words, by latent diffusion."""
    assert not version, "its callback has ended the program"
    context.obj.traceback = show_traceback


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program with `arguments` (the command line's by default) and exit."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a path is printed as it is, even if it is no text in this encoding
        sys.stdout.reconfigure(errors="surrogateescape" if sys.stdout.encoding == "utf-8" else "backslashreplace")
    # Importing makes many objects, which stay. To look among them for rubbish again and again costs 0.1 s, and to take
    # them apart at the end 0.3 s.
    gc.set_threshold(200_000, 20, 100)
    code = run(sys.argv[1:] if arguments is None else arguments)
    gc.freeze()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run the program and return its exit code. Whatever goes wrong is said in one line on stderr."""
    session = Session()
    try:
        command = typer.main.get_command(app)
        code = command.main(list(arguments) or ["--help"], prog_name="rein", standalone_mode=False, obj=session)
        sys.stdout.flush()
    except BrokenPipeError:
        return _silenced()
    except Exception as error:
        if session.traceback:
            traceback.print_exc()
        return _report(error)
    if code == INTERRUPTED:
        _say("interrupted: what was finished before is kept")
    return code if isinstance(code, int) else 0


def _report(error: Exception) -> int:
    """Say what went wrong in one line, and give the exit code for it."""
    if isinstance(error, InterruptedWork):
        _say(str(error))
        return INTERRUPTED
    if isinstance(error, ReinError):
        _say(f"error: {error}")
        return error.exit_code
    if isinstance(error, typer.TyperException):  # a wrong option, a missing argument, an unknown command
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context is not None else ""
        _say(f"error: {error.format_message()}{hint}")
        return error.exit_code
    if isinstance(error, OSError):
        _say(f"error: {_operating_system_message(error)}")
        return 1
    if isinstance(error, MemoryError):
        _say("error: out of memory; try a smaller size or count")
        return 1
    _say(f"error: {type(error).__name__}: {error} (a defect in Rein: `rein --traceback ...` shows where)")
    return 1


def _operating_system_message(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full; free some space and run again (what was finished before is kept)"
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}"


def _say(message: str) -> None:
    """One line on stderr, however many the message has."""
    print("rein:", " ".join(message.splitlines()), file=sys.stderr)


def _silenced() -> int:
    """The reader of our output went away, as `head` does: say nothing, then or when Python flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
