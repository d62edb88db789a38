"""`rein evaluate rate` and `votes`, and the server that takes votes."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from rein.cli.voting import VoteServer
from rein.errors import InputError, OutputError
from rein.evaluation.rating import Vote, read_study, vote_line
from rein.html import Page
from tests.cli.conftest import Run
from tests.evaluation.pictures import folder
from tests.evaluation.test_rating import study_of

PAGE = Page("Rate", connects=True)


def test_a_page_and_its_study_are_written_and_votes_counted(rein: Run) -> None:
    folder(Path("northern"), 10, prompt="an owl"), folder(Path("southern"), 10, seed=1, prompt="an owl")
    done = rein("evaluate", "rate", "northern", "southern", "--count", 8, "-o", "rate.html")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0] == "8 pairs; the study, which says whose pictures they are: rate.study.json"
    assert done.last == Path("rate.html")
    page = Path("rate.html").read_text()
    assert "northern" not in page and "southern" not in page and "an owl" in page
    study = read_study(Path("rate.study.json"))
    for rater in ("alice", "bob"):
        wins = (
            Vote(study.id, p.key, "left" if study.entrants[p.left[0]] == "southern" else "right") for p in study.pairs
        )
        lines = [vote_line(Vote(v.study, v.pair, v.choice, rater)) for v in wins]
        Path(f"votes-{rater}.jsonl").write_bytes(b"".join(lines))
    shown = rein("evaluate", "votes", "votes-alice.jsonl", "votes-bob.jsonl", "--study", "rate.study.json")
    assert shown.out.splitlines()[0].split() == ["RATED", "ELO", "95%", "INTERVAL", "WON", "LOST", "THE", "SAME"]
    assert "northern is preferred to southern in 0% (0% to 19%) of 16 decided votes, 0 the same; more than" in shown.out
    assert shown.out.splitlines()[-1] == "16 votes on 8 pairs by 2 people"
    found = json.loads(rein("evaluate", "votes", "votes-alice.jsonl", "--study", "rate.study.json", "--json").out)
    assert [row["name"] for row in found["rated"]] == ["southern", "northern"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("rate a", "a comparison needs two folders of pictures at least"),
        ("rate a nothing", "there is no folder or file 'nothing'"),
        ("rate a b --count 0", "count is 0: it must be from 1 to 500"),
        ("rate a b -o page.txt", "--output is 'page.txt': give a name that ends in .html"),
        ("rate a b --seed -1", "seed is -1"),
        ("rate a b --serve --port 70000", "port is 70000: it must be from 0"),
        ("votes v.jsonl", "there is no study v.jsonl.study.json: say with --study"),
        ("votes v.jsonl --study s.json", "cannot read the study s.json"),
    ],
)
def test_a_wrong_call_is_one_line(rein: Run, arguments: str, reason: str) -> None:
    folder(Path("a"), 2), folder(Path("b"), 2)
    done = rein("evaluate", *arguments.split())
    assert done.code == 2 and done.out == ""
    assert done.err.startswith("rein: error: ") and done.err.count("\n") == 1
    assert reason in done.err


@pytest.fixture
def server(tmp_path: Path) -> Iterator[VoteServer]:
    found = VoteServer(PAGE, study_of(3), tmp_path / "votes.jsonl", 0)
    thread = threading.Thread(target=found.run)
    thread.start()
    yield found
    found.stop()
    thread.join()


def asked(server: VoteServer, path: str = "", body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(server.address + path, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_the_server_gives_the_page_and_stores_votes(server: VoteServer, tmp_path: Path) -> None:
    assert server.address.startswith("http://127.0.0.1:")
    assert asked(server) == (200, PAGE.render().encode())
    assert asked(server, Host=f"localhost:{server.port}")[0] == 200
    lines = [vote_line(Vote("id", "0001", choice, "alice")) for choice in ("left", "same")]
    for line in lines:
        assert asked(server, "vote", line, **{"Content-Type": "application/json"})[0] == 200
    assert (tmp_path / "votes.jsonl").read_bytes() == b"".join(lines)


@pytest.mark.parametrize(
    ("path", "body", "headers", "code"),
    [
        ("other", None, {}, 404),
        ("vote", b'{"study":"id","pair":"0001","choice":"left"}', {"Content-Type": "text/plain"}, 400),
        ("vote", b'{"study":"id","pair":"9","choice":"left"}', {"Content-Type": "application/json"}, 400),
        ("vote", b"[" * 5000, {"Content-Type": "application/json"}, 400),
        ("vote", b"", {"Content-Type": "application/json"}, 400),
        ("vote", b'{"study":"id"}', {"Content-Type": "application/json", "Host": "evil.example"}, 404),
        ("", None, {"Host": "evil.example"}, 404),
    ],
)
def test_the_server_takes_nothing_else(
    server: VoteServer, path: str, body: bytes | None, headers: dict[str, str], code: int, tmp_path: Path
) -> None:
    assert asked(server, path, body, **headers)[0] == code
    assert (tmp_path / "votes.jsonl").read_bytes() == b""


def test_a_server_that_cannot_work_says_so_at_once(tmp_path: Path, server: VoteServer) -> None:
    taken = int(server.address.rstrip("/").rpartition(":")[2])
    with pytest.raises(InputError, match=f"cannot listen on port {taken}"):
        VoteServer(PAGE, study_of(1), tmp_path / "v.jsonl", taken)
    with pytest.raises(OutputError, match="its folder does not exist"):
        VoteServer(PAGE, study_of(1), tmp_path / "no" / "v.jsonl", 0)
