"""Help of a command with many options, in sections: the one that an option names as its panel, and the rest first."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

_ARGUMENTS, _OPTIONS = "Arguments", "Options"


class Sectioned(TyperCommand):
    """A command whose help lists its options by section, in the order in which the sections first come."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the sections."""
        sections: dict[str, list[tuple[str, str]]] = {_ARGUMENTS: [], _OPTIONS: []}
        for entry in self.get_params(ctx):
            record = entry.get_help_record(ctx)
            if record is not None:
                panel = getattr(entry, "rich_help_panel", None) or _OPTIONS
                sections.setdefault(_ARGUMENTS if entry.param_type_name == "argument" else panel, []).append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
