"""The house rules that a machine can check: which room may import which, how large a file may be, what must be there.

Everything is read from the source text, so a rule holds for an import within a function as for one at the top.
"""

import ast
import graphlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"

RANKS = {
    "errors": 0,
    "version": 0,
    "files": 0,
    "devices": 0,
    "exif": 0,
    "images": 0,
    "image_files": 0,
    "image_sheets": 0,
    "masks": 0,
    "places": 0,
    "html": 0,
    "interrupt": 0,
    "nn": 1,
    "diffusion": 1,
    "text": 2,
    "formats": 3,
    "engines": 3,
    "pipeline": 4,
    "data": 5,
    "training": 6,
    "evaluation": 6,
    "explain": 6,
    "cluster": 7,
    "server": 7,
    "cli": 8,
    "__main__": 9,
    "__init__": 9,
}
"""A room imports rooms of lower rank, and itself. The single files of rank 0 count as one room, the ground floor."""

IMPORT_NAMES = {"pillow": "PIL"}
"""Packages that are imported by another name than they are installed by."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One Python file of ours."""

    path: Path

    @property
    def label(self) -> str:
        return str(self.path.relative_to(ROOT))

    @cached_property
    def text(self) -> str:
        return self.path.read_text()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def name(self) -> str:
        """Its name in Python: rein.nn.unet, or rein.nn for a package's __init__."""
        parts = self.path.relative_to(SOURCE).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def room(self) -> str:
        return room_of(self.name)

    def imports(self) -> Iterator[tuple[str, int]]:
        """The full name of everything that is imported anywhere in the file, and the line."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.label}:{node.lineno}: a relative import; write the full name"
                yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)

    def functions(self) -> Iterator[Function]:
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))


def room_of(name: str) -> str:
    """The room of a full name: nn for rein.nn.unet.UNet."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in RANKS else "__init__"


MODULES = [Module(path) for path in sorted((SOURCE / "rein").rglob("*.py"))]
BY_NAME = {module.name: module for module in MODULES}
OTHERS = [Module(path) for folder in ("tests", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]


def length(node: Function) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def project() -> dict[str, list[str]]:
    """The import names of the packages that Rein depends on: under "" always, and under each extra's name."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {"": table["dependencies"], **table["optional-dependencies"]}
    return {extra: [import_name(requirement) for requirement in listed] for extra, listed in wanted.items()}


def import_name(requirement: str) -> str:
    distribution = re.split(r"[^A-Za-z0-9_.-]", requirement)[0].lower()
    return IMPORT_NAMES.get(distribution, distribution.replace("-", "_"))


def report(violations: list[str]) -> str:
    return "\n".join(["", *violations])


def test_every_room_has_a_rank() -> None:
    rooms = {
        path.stem for path in (SOURCE / "rein").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms <= RANKS.keys()


def test_every_folder_of_code_is_a_package() -> None:
    """Without its __init__.py a folder is left out of the installed package."""
    folders = {module.path.parent for module in MODULES}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_rooms_import_lower_rooms_only() -> None:
    violations = []
    for module in MODULES:
        for name, line in module.imports():
            if name.split(".")[0] != "rein":
                continue
            ours, theirs = RANKS[module.room], RANKS[room_of(name)]
            same_room = module.room == room_of(name) or ours == theirs == 0
            if not same_room and theirs >= ours:
                violations.append(f"{module.label}:{line}: {module.room} [{ours}] imports {name} [{theirs}]")
    assert not violations, report(violations)


def test_no_import_goes_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        names = {name for name, _ in module.imports() if name.split(".")[0] == "rein"}
        targets = {name if name in BY_NAME else name.rpartition(".")[0] for name in names}
        graph[module.name] = targets - {module.name}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_only_declared_packages_are_imported() -> None:
    """An optional package comes through `errors.require`, which says what to install; for types it may be named."""
    allowed = {*sys.stdlib_module_names, "rein", *project()[""]}
    violations = []
    for module in MODULES:
        for_types = {
            line
            for node in ast.walk(module.tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
        }
        for name, line in module.imports():
            if name.split(".")[0] not in allowed and line not in for_types:
                violations.append(f"{module.label}:{line}: imports {name}, which is not a dependency: use require()")
    assert not violations, report(violations)


def test_every_main_dependency_is_used() -> None:
    used = {name.split(".")[0] for module in MODULES for name, _ in module.imports()}
    assert [name for name in project()[""] if name not in used] == []


def test_every_required_extra_brings_its_package() -> None:
    extras = project()
    violations = []
    for module in MODULES:
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Call) or ast.unparse(node.func).split(".")[-1] != "require":
                continue
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            values = [value.value if isinstance(value, ast.Constant) else None for value in given]
            package, extra = values if len(values) == 2 else (None, None)
            if not isinstance(package, str) or not isinstance(extra, str):
                violations.append(f"{module.label}:{node.lineno}: require() takes two plain texts: package, extra")
            elif package.split(".")[0] not in extras.get(extra, []):
                violations.append(f"{module.label}:{node.lineno}: extra {extra!r} does not bring {package!r}")
    assert not violations, report(violations)


def test_files_are_of_readable_size() -> None:
    lengths = {module.label: len(module.text.splitlines()) for module in MODULES + OTHERS}
    violations = [f"{label}: {lines} lines, at most 400" for label, lines in lengths.items() if lines > 400]
    assert not violations, report(violations)


def test_functions_are_of_readable_size() -> None:
    violations = [
        f"{module.label}:{function.lineno}: {function.name} has {length(function)} lines, at most 80"
        for module in MODULES + OTHERS
        for function in module.functions()
        if length(function) > 80
    ]
    assert not violations, report(violations)


def test_nine_functions_of_ten_have_thirty_lines_at_most() -> None:
    lengths = sorted(length(function) for module in MODULES for function in module.functions())
    assert lengths[int(len(lengths) * 0.9)] <= 30


def is_command(module: Module, function: Function) -> bool:
    """Whether typer makes a command's options of this signature: they are its interface, and not ours to bundle."""
    marks = (mark.func for mark in function.decorator_list if isinstance(mark, ast.Call))
    return module.room == "cli" and any(isinstance(mark, ast.Attribute) and mark.attr == "command" for mark in marks)


def test_functions_take_eight_parameters_at_most() -> None:
    violations = []
    for module in MODULES:
        for function in module.functions():
            given = function.args
            names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            if count > 8 and not is_command(module, function):
                violations.append(f"{module.label}:{function.lineno}: {function.name} takes {count}, at most 8")
    assert not violations, report(violations)


def public_definitions(module: Module) -> Iterator[tuple[str, ast.AST]]:
    """The module, its public functions and its public classes; a short method may speak for itself."""
    yield "the module", module.tree
    for node in module.tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node


def test_what_is_public_is_documented() -> None:
    violations = [
        f"{module.label}: {name} has no docstring"
        for module in MODULES
        for name, node in public_definitions(module)
        if isinstance(node, ast.Module | ast.ClassDef | Function) and not ast.get_docstring(node)
    ]
    assert not violations, report(violations)


def test_nothing_is_left_for_later() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    violations = [
        f"{module.label}:{number}: {line.strip()}"
        for module in MODULES
        for number, line in enumerate(module.text.splitlines(), 1)
        if marks.search(line)
    ]
    assert not violations, report(violations)


IMPORT_EVERYTHING = """
import importlib, os, sys
import numpy, PIL.Image, pydantic, rich, tokenizers, torch, typer
def state():
    torch_state = torch.random.get_rng_state().tolist(), torch.get_default_dtype(), torch.get_num_threads()
    return torch_state, dict(os.environ)
before, there = state(), set(sys.modules)
done = []
def hook(event, arguments):
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & writes:
        done.append(f"opened {arguments[0]} for writing")
    if event in ("os.mkdir", "os.rename", "os.remove", "subprocess.Popen", "socket.connect", "os.system"):
        done.append(f"{event} {arguments}")
sys.addaudithook(hook)
for name in sys.argv[1:]:
    importlib.import_module(name)
if state() != before:
    done.append("changed a global state of torch or the environment")
optional = {"accelerate", "diffusers", "resvg_py", "tensorboard", "transformers", "langchain_core", "ray", "starlette"}
done += sorted(f"imported {name}" for name in optional & (set(sys.modules) - there))
print(*done, sep="\\n", end="")
"""


def test_importing_any_module_does_nothing_else(tmp_path: Path) -> None:
    names = [name for name in BY_NAME if not name.endswith("__main__")]
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_EVERYTHING, *names],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""
