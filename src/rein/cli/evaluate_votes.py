"""`rein evaluate rate` and `rein evaluate votes`: people judge, blind, and what they said is counted."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rein.cli.evaluate import evaluations
from rein.cli.progress import meter
from rein.cli.tables import table
from rein.cli.values import whole
from rein.errors import InputError

if TYPE_CHECKING:
    from rein.evaluation.elo import Tally

_RATE_EXAMPLES = """
\b
Examples:
  rein evaluate rate evaluation/before evaluation/after --output rate.html
  rein evaluate rate before after --serve
  rein evaluate votes votes-*.jsonl --study rate.study.json

Pictures of the same name are shown side by side, and neither page nor pictures say whose they are. Which stood where
is in the study, a file beside the page: keep it from those who rate. With --serve every vote is stored at once beside
the study; without, people save their votes and send you the file.
"""
_VOTES_EXAMPLES = """
\b
Examples:
  rein evaluate votes votes-alice.jsonl votes-bob.jsonl --study rate.study.json
  rein evaluate votes rate.votes.jsonl
"""

_STUDY, _VOTES = ".study.json", ".votes.jsonl"

AsJson = Annotated[bool, typer.Option("--json", help="Print the counts as JSON, and nothing else, on stdout.")]


@evaluations.command("rate", epilog=_RATE_EXAMPLES)
def rate(
    places: Annotated[list[str], typer.Argument(metavar="PICTURES...", help="Two or more sets of pictures.")],
    count: Annotated[int, typer.Option(parser=whole, metavar="N", help="Pairs at most, 1 to 500.")] = 50,
    seed: Annotated[int, typer.Option(parser=whole, metavar="N", help="Of the lot: which pairs, which side.")] = 0,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.html", help="The page; the study lies beside it.")
    ] = Path("rate.html"),
    serve: Annotated[
        bool, typer.Option("--serve", help="Show the page at an address of this machine, and store each vote.")
    ] = False,
    port: Annotated[int, typer.Option(parser=whole, metavar="N", help="For --serve; 0 takes a free one.")] = 0,
) -> None:
    """Make a page on which people choose the better of two pictures without knowing whose they are."""
    if output.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--output is {str(output)!r}: give a name that ends in .html")
    if seed < 0:
        raise InputError(f"seed is {seed}: it must be 0 at least")
    with meter() as shown:
        shown.show("putting pairs together")
        from rein.evaluation.picture_lists import open_list
        from rein.evaluation.rating import new_study, write_study
        from rein.evaluation.rating_page import rating_page
        from rein.html import write_page

        lists = [open_list(place) for place in places]
        study = new_study(lists, count, seed)
        beside = output.with_suffix(_STUDY)
        write_study(study, beside)
        if not serve:
            write_page(rating_page(study, lists), output)
        else:
            from rein.cli.voting import PATH, VoteServer

            server = VoteServer(rating_page(study, lists, PATH), study, output.with_suffix(_VOTES), port)
    if serve:
        print(f"{len(study.pairs)} pairs at {server.address} (Ctrl-C ends it)", flush=True)
        server.run()
        print(output.with_suffix(_VOTES), flush=True)
        return
    print(f"{len(study.pairs)} pairs; the study, which says whose pictures they are: {beside}")
    print(output, flush=True)


@evaluations.command("votes", epilog=_VOTES_EXAMPLES)
def votes(
    files: Annotated[list[Path], typer.Argument(metavar="VOTES.jsonl...", help="Files of votes.")],
    study: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The study that they belong to. [default: beside the first, of its name]"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count votes: who wins how often, with intervals, and ratings on Elo's scale."""
    from rein.evaluation.elo import tally
    from rein.evaluation.rating import read_study, read_votes

    place = study if study is not None else files[0].with_name(files[0].name.removesuffix(_VOTES) + _STUDY)
    if study is None and not place.is_file():
        raise InputError(f"there is no study {place}: say with --study which one the votes belong to")
    known = read_study(place)
    found = tally(known, read_votes(files, known))
    print(json.dumps(asdict(found), indent=1) if as_json else tally_lines(found), flush=True)


def tally_lines(found: Tally) -> str:
    """Counts as two tables."""
    rows = [("RATED", "ELO", "95% INTERVAL", "WON", "LOST", "THE SAME")]
    for row in found.rated:
        interval = f"{row.low:.0f} to {row.high:.0f}"
        rows.append((row.name, f"{row.elo:.0f}", interval, str(row.wins), str(row.losses), str(row.same)))
    lines = [table(rows), ""]
    for match in found.matches:
        share = match.share
        interval = f"{share.rate:.0%} ({share.low:.0%} to {share.high:.0%})"
        words = "may be chance" if match.chance > 0.05 else "more than chance"
        lines.append(
            f"{match.first} is preferred to {match.second} in {interval} of {share.total} decided votes, "
            f"{match.same} the same; {words} (p = {match.chance:.3f})"
        )
    people = "1 person" if found.raters == 1 else f"{found.raters} people"
    return "\n".join([*lines, f"{found.votes} votes on {found.pairs} pairs by {people}"])
