"""What the documents say is so: commands, exit codes, files, links."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import typer

from paritree.cli import output
from paritree.cli.main import COMMANDS, load

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted(
    path for package in ("paritree", "edge_agent", "coordinator") for path in (ROOT / package).rglob("*.md")
)
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
NAMED_FILE = re.compile(r"`((?:paritree|edge_agent|coordinator|tests|proto|deploy)/[\w./-]+)`")
SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def rows(first: str) -> list[tuple[str, str]]:
    """The rows of README's table whose head begins with ``first``."""
    table = README.split(f"| {first} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [(cells[1].strip(), cells[2].strip()) for line in table if (cells := line.split("|"))]


def test_readme_names_every_command_in_the_order_of_help() -> None:
    assert [name for name, _ in rows("command")] == [f"`paritree {name}`" for name in COMMANDS]


def test_readme_names_every_subcommand_it_mentions_truly() -> None:
    for name, said in rows("command"):
        command = load(name.strip("`").split()[1])
        known = set(getattr(command, "commands", {}))
        assert set(re.findall(r"`(\w+)`", said)) <= known


def test_nothing_leads_to_what_is_not_in_the_repository() -> None:
    said = re.compile(r"DESIGN\.md")
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.proto"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = [ROOT / name for name in listed.stdout.split()]
    assert len(files) > 100
    assert [path for path in files if said.search(path.read_text())] == []


def test_readme_names_every_task() -> None:
    tasks = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["poe"]["tasks"]
    listed = README.split("`poe` lists the single tasks:", 1)[1].split(".", 1)[0]
    assert set(re.findall(r"`(\w+)`", listed)) == set(tasks)


def test_readme_has_every_exit_code() -> None:
    codes = {value for name, value in vars(output).items() if name.startswith("EXIT_")} - {output.EXIT_PIPE}
    assert {int(code) for code, _ in rows("exit code")} == codes


def test_every_command_of_readme_is_one() -> None:
    commands = [line for block in SHELL.findall(README) for line in block.splitlines()]
    assert commands[0] == "deploy/paritree demo"
    assert "deploy/test" in commands
    for line in commands:
        program, *arguments = line.split()
        assert os.access(ROOT / program, os.X_OK), program
        if program == "deploy/paritree":
            assert arguments[0] in COMMANDS
    mentioned = set(re.findall(r"`paritree (\w+)", README)) | set(re.findall(r"\$ paritree (\w+)", README))
    assert mentioned <= set(COMMANDS)


def test_options_that_readme_mentions_exist() -> None:
    options = {option for name in COMMANDS for option in options_of(load(name))}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) <= options | {"--help"}


def options_of(command: typer.core.TyperCommand | typer.core.TyperGroup) -> set[str]:
    found = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for below in getattr(command, "commands", {}).values():
        found |= options_of(below)
    return found


@pytest.mark.parametrize("document", [ROOT / "README.md", *DOCUMENTS], ids=lambda path: path.name)
def test_files_that_a_document_names_are_there(document: Path) -> None:
    text = document.read_text()
    assert text.startswith("# ")
    broken = [link for link in LINK.findall(text) if "://" not in link and not (document.parent / link).exists()]
    broken += [
        name for name in NAMED_FILE.findall(text) if not any((ROOT / f"{name}{end}").exists() for end in ("", ".py"))
    ]
    assert broken == []


def test_stations_of_the_architecture_are_modules() -> None:
    street = (ROOT / "paritree" / "ARCHITECTURE.md").read_text().split("| station |")[1].split("\n\n")[0]
    for line in street.splitlines()[2:]:
        for name in re.findall(r"`([\w/]+)`", line.split("|")[2]):
            path = ROOT / "paritree" / "core" / name
            assert path.is_dir() or path.with_suffix(".py").is_file(), name
    assert street.count("\n") > 8


def test_the_two_commands_are_what_ci_runs() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "deploy/test" in (ROOT / ".ci" / "run").read_text()
