"""The command line: one file per command, each thin, and in `app` what they share.

A command's module imports only light things at its top (`typer`, `rein.errors`); PyTorch and the rooms that need it are
imported inside the command's function. So `rein --help` stays under 0.2 s, which a test measures.
"""

# Importing a command's module enters it into the program, in the order in which `rein --help` lists them.
# isort: off
from rein.cli import generate, models, conversion, prompt, train, evaluate, explain, replay, batch, sheet, upscale
from rein.cli import interpolate, data, evaluate_pictures, evaluate_votes
from rein.cli.app import main

__all__ = [
    "batch",
    "conversion",
    "data",
    "evaluate",
    "evaluate_pictures",
    "evaluate_votes",
    "explain",
    "generate",
    "interpolate",
    "main",
    "models",
    "prompt",
    "replay",
    "sheet",
    "train",
    "upscale",
]
