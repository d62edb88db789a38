"""Hostile files are refused, in one line and at once, and nothing in them runs: a museum of what is known.

All run in another process under an audit hook, which sees every import, every opened file, every process and every
connection that Python makes. That the hook sees them is shown beside it, with Python's own `pickle`.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rein.errors import DamagedFileError
from rein.formats.weights import open_weights
from tests.formats.attacks_archive import archive, every_attack, honest, legacy, zipped
from tests.formats.attacks_pickle import CANARY, PROTO, call, saved, text
from tests.formats.test_tensors import DAMAGE

SAFETENSORS = {f"{name}, safetensors": (content, "") for name, (content, _) in DAMAGE.items()}
ATTACKS = every_attack() | SAFETENSORS

IN_ANOTHER_PROCESS = """
import json, os, pickle, sys, time
from pathlib import Path
from rein.errors import DamagedFileError
from rein.formats.weights import open_weights

folder, plain = Path(sys.argv[1]), sys.argv[2] == "plain"
for path in sorted(folder.glob("honest*")):
    for value in open_weights(path).values():
        assert value.sum() == 10
b"a".decode("raw-unicode-escape")  # Python imports its codecs when they are first used
seen, current = None, ""

def hook(event, arguments):
    reads_the_file = event == "open" and arguments[0] == current and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if seen is None or reads_the_file or event == "mmap.__new__":
        return
    seen.append(f"{event} {arguments}"[:200])

sys.addaudithook(hook)
results = {}
for path in sorted(folder.glob("attack*")):
    current, reason, spent, found = str(path), None, [], []
    for _ in range(1 if plain else 3):
        seen, start = found, time.process_time()
        try:
            pickle.loads(path.read_bytes()) if plain else open_weights(path)
        except DamagedFileError as error:
            reason = str(error)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}" if plain else None
        end, seen = time.process_time(), None
        spent.append(end - start)
    results[path.name] = [reason, min(spent), found]
print(json.dumps(results))
"""


def run_apart(folder: Path, how: str) -> dict[str, list[Any]]:
    """What each attack in `folder` came to: the reason it was refused, the seconds, and what the hook saw."""
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, str(folder), how],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, list[Any]] = json.loads(done.stdout)
    return results


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    folder = tmp_path_factory.mktemp("attacks")
    for name, content in {"zip": archive(honest()), "legacy": legacy()}.items():
        (folder / f"honest {name}").write_bytes(content)
    for number, (content, _) in enumerate(ATTACKS.values()):
        (folder / f"attack {number:03}.safetensors").write_bytes(content)
    results = run_apart(folder, "rein")
    assert not (folder / CANARY).exists()
    return {name: results[f"attack {number:03}.safetensors"] for number, name in enumerate(ATTACKS)}


def test_every_attack_is_refused_for_its_reason_in_one_line(outcome: dict[str, list[Any]]) -> None:
    wrong = {}
    for name, (_, expected) in ATTACKS.items():
        reason = outcome[name][0]
        if reason is None or "\n" in reason or len(reason) > 500 or not re.search(expected, reason):
            wrong[name] = (expected, reason)
    assert not wrong, "\n".join(f"{name}: expected {pair[0]!r}, got {pair[1]!r}" for name, pair in wrong.items())


def test_every_attack_is_refused_within_a_tenth_of_a_second(outcome: dict[str, list[Any]]) -> None:
    slow = {name: seconds for name, (_, seconds, _) in outcome.items() if seconds >= 0.1}
    assert not slow


def test_no_attack_runs_imports_opens_or_starts_anything(outcome: dict[str, list[Any]]) -> None:
    seen = {name: events for name, (_, _, events) in outcome.items() if events}
    assert not seen


def test_the_hook_sees_what_python_s_own_pickle_does(tmp_path: Path) -> None:
    (tmp_path / "attack").write_bytes(PROTO + call("os", "mkdir", text(CANARY)) + b".")
    [[_, _, seen]] = run_apart(tmp_path, "plain").values()
    assert any(event.startswith("pickle.find_class ('os', 'mkdir')") for event in seen)
    assert any(event.startswith("os.mkdir") for event in seen)
    assert (tmp_path / CANARY).is_dir()


@pytest.mark.parametrize("content", [archive(honest()), zipped(saved()), legacy()], ids=["zip", "zipped", "legacy"])
def test_a_whole_file_cut_anywhere_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    assert open_weights(path)["x"].tolist() == [1, 2, 3, 4]
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DamagedFileError):
            open_weights(path)
