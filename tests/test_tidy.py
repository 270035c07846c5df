"""What every file of the repository keeps to: direction of imports, layers, sizes, names, and nothing of a machine."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("paritree", "edge_agent", "coordinator")
GENERATED = "paritree/wire/v1/"
TOP_LEVEL = {
    *(".ci", ".gitignore", "README.md", "coordinator", "deploy", "edge_agent", "paritree", "proto"),
    *("pyproject.toml", "requirements.lock", "tests"),
}
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}

CORE_MAY_IMPORT = {
    *("__future__", "base64", "collections", "contextlib", "dataclasses", "decimal", "difflib", "enum", "functools"),
    *(
        "errno",
        "fractions",
        "hashlib",
        "ipaddress",
        "itertools",
        "json",
        "math",
        "re",
        "shlex",
        "struct",
        "typing",
        "unicodedata",
    ),
    *("msgpack", "numpy", "pyarrow", "llvmlite", "numba"),
}
"""Nothing here opens a socket or a file, asks for the time, makes a thread or draws a random number."""
CORE_EXCEPTIONS = {
    # Compiled kernels live in a cache on disk, so that not every process compiles them.
    "paritree.core.fast.cache": {"importlib", "os", "pathlib", "sys", "tempfile"},
    # Calls them, and asks numba where their memory is.
    "paritree.core.fast.machinecode": {"ctypes", "operator"},
    "paritree.core.fast.compiler": {"ctypes"},
    # Loads them late and once, whichever thread asks first.
    "paritree.core.fast.warming": {"importlib", "sys", "threading"},
    "paritree.core.loading": {"gc"},
    # Of urllib only what takes text apart.
    "paritree.core.urls": {"urllib"},
    # Imports it late.
    "paritree.core.compute": {"importlib"},
}
LAYERS = {
    "paritree.core": {"paritree.core"},
    "paritree.config": {"paritree.core", "paritree.config", "paritree.secrets"},
    "paritree.wire": {"paritree.core", "paritree.wire", "paritree.tls", "paritree.certificate"},
    "paritree.demo": {"paritree.core", "paritree.demo"},
    "edge_agent.connectors": {"paritree.core", "edge_agent.connectors"},
}
"""What the modules of a package may import of ours; ``paritree`` itself (the version) is free to all but the core."""
CODECS = {"paritree.wire.codec", "paritree.wire.requests", "paritree.wire.replies", "paritree.wire.control"}
"""The only modules that know generated messages: one with two parts for agents, one for operators."""
DASK = {"edge_agent.executors"}
DRIVERS = {
    "psycopg": ("edge_agent.connectors.postgresql",),
    "cassandra": ("edge_agent.connectors.cassandra",),
    "nats": ("edge_agent.topic.stream",),
    "duckdb": ("edge_agent.connectors.duckdb", "paritree.demo"),
    "sqlite3": ("edge_agent.connectors.sqlite", "edge_agent.letters", "coordinator.store", "paritree.demo"),
    "sqlalchemy": ("coordinator.store",),
    "alembic": ("coordinator.store",),
    "typer": ("paritree.cli",),
    "rich": ("paritree.cli",),
}


def tracked() -> list[str]:
    """Every file of the repository, those not committed yet included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return sorted(name for name in listed if (ROOT / name).is_file())


@dataclass(frozen=True)
class Module:
    """One Python file of ours."""

    file: str

    @property
    def name(self) -> str:
        return self.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse((ROOT / self.file).read_bytes(), self.file)

    @cached_property
    def imports(self) -> frozenset[str]:
        """Dotted names of everything that is imported anywhere in the file, of names inside of packages too."""
        return frozenset(self._imports())

    def _imports(self) -> Iterator[str]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.file}:{node.lineno}: relative import"
                yield node.module or ""
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def modules() -> dict[str, Module]:
    """Every module of production, by dotted name; generated ones are left out."""
    files = [name for name in tracked() if name.endswith(".py") and name.split("/")[0] in PACKAGES]
    found = [Module(name) for name in files if not name.startswith(GENERATED)]
    assert len(found) > 100, "the modules were not found"
    return {module.name: module for module in found}


@cache
def python_files() -> list[Module]:
    return [Module(name) for name in tracked() if name.endswith(".py") and not name.startswith(GENERATED)]


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def ours(name: str) -> bool:
    return name.split(".")[0] in PACKAGES


def resolved(name: str) -> str:
    """The module that a dotted name is in: ``paritree.core.digest.token`` -> ``paritree.core.digest``."""
    known = modules()
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def test_only_the_agreed_entries_stand_at_the_top() -> None:
    assert {name.split("/")[0] for name in tracked()} <= TOP_LEVEL
    assert [name for name in tracked() if name.startswith(".ci/")] == [".ci/run"]


def test_the_core_does_no_input_or_output() -> None:
    wrong = [
        f"{module.file} imports {name}"
        for module in modules().values()
        if inside(module.name, "paritree.core")
        for name in module.imports
        if not ours(name) and name.split(".")[0] not in CORE_MAY_IMPORT | CORE_EXCEPTIONS.get(module.name, set())
    ]
    assert not wrong
    opened = [
        f"{module.file}:{node.lineno}"
        for module in modules().values()
        if inside(module.name, "paritree.core")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("open", "input")
    ]
    assert not opened


@pytest.mark.parametrize("package", LAYERS)
def test_a_layer_imports_only_what_is_below_it(package: str) -> None:
    allowed = LAYERS[package] | ({"paritree"} if package != "paritree.core" else set())
    wrong = [
        f"{module.file} imports {name}"
        for module in modules().values()
        if inside(module.name, package)
        for name in module.imports
        if ours(name)
        and not (inside(name, GENERATED.strip("/").replace("/", ".")) and module.name in CODECS)
        and resolved(name) != "paritree"
        and not any(inside(name, layer) for layer in allowed - {"paritree"})
    ]
    assert not wrong


def test_agent_and_coordinator_never_import_each_other_and_only_the_command_line_imports_both() -> None:
    for module in modules().values():
        sides = {name.split(".")[0] for name in module.imports} & {"edge_agent", "coordinator"}
        if inside(module.name, "paritree.cli"):
            continue
        own = module.name.split(".")[0]
        assert sides <= {own}, f"{module.file} imports {', '.join(sorted(sides - {own}))}"
        assert not any(inside(name, "paritree.cli") for name in module.imports), f"{module.file} imports the CLI"


def test_only_the_codecs_know_generated_messages() -> None:
    users = {
        module.name
        for module in modules().values()
        for name in module.imports
        if inside(name, "paritree.wire.v1") and module.name != "paritree.wire.v1"
    }
    assert users == CODECS


def test_dask_stays_behind_one_file() -> None:
    assert {m.name for m in modules().values() for n in m.imports if n.split(".")[0] in ("dask", "distributed")} == DASK


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_stays_behind_its_border(driver: str) -> None:
    users = {m.name for m in modules().values() for name in m.imports if name.split(".")[0] == driver}
    assert [name for name in sorted(users) if not any(inside(name, package) for package in DRIVERS[driver])] == []


def test_no_module_is_dead() -> None:
    reached: set[str] = set()
    waiting = list(roots())
    while waiting:
        name = waiting.pop()
        if name in reached or name not in modules():
            continue
        reached.add(name)
        waiting += [name.rpartition(".")[0], *map(resolved, modules()[name].imports), *named(modules()[name])]
    dead = {name for name in modules() if name not in reached and not inside(name, "coordinator.store.migrations")}
    assert dead == set()


def roots() -> Iterator[str]:
    """What is started from outside: the command, the connectors, the commands' modules, the tasks of pyproject.toml."""
    from paritree.cli.main import COMMANDS

    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    for entry in (*project["scripts"].values(), *project["entry-points"]["paritree.connectors"].values()):
        yield entry.partition(":")[0]
    yield from (f"paritree.cli.{name}" for name in COMMANDS)
    yield from re.findall(r"python -m (paritree[\w.]+)", text)


def named(module: Module) -> Iterator[str]:
    """Modules that a file imports by their name in a text, of the same package or in full."""
    package = module.name.rpartition(".")[0]
    if not any(inside(name, "importlib") or inside(name, "paritree.core.fast.warming") for name in module.imports):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (name for name in (node.value, f"{package}.{node.value}") if name in modules())


def test_every_connector_is_a_folder_with_the_same_files() -> None:
    engines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["paritree.connectors"]
    folders = {entry.partition(":")[0].replace(".", "/") for entry in engines.values()}
    assert len(folders) >= 5
    for folder in sorted(folders):
        for name in ("__init__", "connector", "errors", "lookup", "scan", "schema", "shards"):
            assert (ROOT / folder / f"{name}.py").is_file(), f"{folder} has no {name}.py"


def test_no_file_and_no_function_is_too_long() -> None:
    long = [
        f"{module.file}: {lines} lines"
        for module in python_files()
        if (lines := len((ROOT / module.file).read_bytes().splitlines())) > FILE_LINES_MAX
    ]
    long += [
        f"{module.file}:{node.lineno}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for module in python_files()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= FUNCTION_LINES_MAX
    ]
    assert long == []


def test_every_exception_handler_names_what_it_handles() -> None:
    bare = [
        f"{module.file}:{node.lineno}"
        for module in python_files()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert bare == []


def test_only_the_command_line_prints() -> None:
    printing = [
        f"{module.file}:{node.lineno}"
        for module in modules().values()
        if not inside(module.name, "paritree.cli")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printing == []


def test_every_module_has_a_name_that_says_something_and_a_docstring() -> None:
    assert [m.file for m in python_files() if m.name.rpartition(".")[2] in VAGUE_NAMES] == []
    assert [m.file for m in python_files() if not ast.get_docstring(m.tree)] == []


FORBIDDEN = {
    "a path of a machine": r"(?<![\w.-])/(work|root|home/\w+)/",
    "a package registry": r"\b(pypi\.org|python[h]osted|repo1?\.maven|npmjs\.|crates\.io|deb\.debian)",
    "a download address": r"--(extra-)?index[-]url|--find[-]links|--trusted[-]host",
    "work left undone": r"\b(TO[D]O|FIX[M]E|XX[X])\b",
    "a mark of a merge": r"^(<{7}|>{7}) ",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_has(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what], re.MULTILINE)
    found = []
    for name in tracked():
        text = (ROOT / name).read_bytes().decode("utf-8", "ignore")
        found += [f"{name}:{text.count(chr(10), 0, m.start()) + 1}: {m.group()}" for m in pattern.finditer(text)]
    assert found == []


def test_the_lock_has_a_hash_for_everything_and_no_address() -> None:
    text = (ROOT / "requirements.lock").read_text()
    pins = re.findall(
        r"^([A-Za-z0-9._-]+)==\S+ \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.MULTILINE
    )
    assert len(pins) == len(re.findall(r"^[^\s#]", text, re.MULTILINE)) > 50
    assert "://" not in text
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {pin.lower().replace("_", "-") for pin, _ in pins}
    wanted = [*declared["dependencies"], *(r for extra in declared["optional-dependencies"].values() for r in extra)]
    missing = [r for r in wanted if re.split(r"[\[<>=! ]", r)[0].lower().replace("_", "-") not in names]
    assert missing == [], "run: poe lock"
