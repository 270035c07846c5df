"""Secrets from a file, the environment or a command, and what is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from paritree import secrets
from paritree.core.errors import ConfigError
from paritree.secrets import read_secret

SECRET = "s3cret-välue"


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_file_without_its_last_line_break(tmp_path: Path, ending: str) -> None:
    file = write(tmp_path / "pw", SECRET + ending)
    assert read_secret(f"file:{file}", where="x") == SECRET
    assert read_secret("file:pw", where="x", base=tmp_path) == SECRET


def test_inner_and_further_line_breaks_belong_to_the_secret(tmp_path: Path) -> None:
    write(tmp_path / "pw", " a\nb \n\n")
    assert read_secret("file:pw", where="x", base=tmp_path) == " a\nb \n"


def test_a_link_to_a_private_file_is_followed(tmp_path: Path) -> None:
    write(tmp_path / "real", SECRET)
    (tmp_path / "link").symlink_to("real")
    assert read_secret("file:link", where="x", base=tmp_path) == SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666, 0o777])
def test_a_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    file = write(tmp_path / "pw", SECRET, mode)
    with pytest.raises(ConfigError, match=f"mode 0{mode:o}") as caught:
        read_secret(f"file:{file}", where="agent.toml: password")
    assert caught.value.next_step == f"chmod 600 {file}"
    assert caught.value.message.startswith("agent.toml: password: ")


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARITREE_TEST_SECRET", SECRET)
    assert read_secret("env:PARITREE_TEST_SECRET", where="x") == SECRET
    monkeypatch.delenv("PARITREE_TEST_SECRET")
    with pytest.raises(ConfigError, match="PARITREE_TEST_SECRET is not set"):
        read_secret("env:PARITREE_TEST_SECRET", where="x")


def test_a_command_is_split_but_no_shell_sees_it(tmp_path: Path) -> None:
    script = tmp_path / "show it.py"
    script.write_text("import sys; print(sys.argv[1], end='')")
    assert read_secret(f"command:{sys.executable} '{script}' '$(echo x); `y` {SECRET}'", where="x") == (
        f"$(echo x); `y` {SECRET}"
    )


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (f"import sys; print('{SECRET}'); sys.exit(3)", "ended with status 3"),
        (f"import sys; sys.stderr.write('{SECRET}'); sys.exit(1)", "ended with status 1"),
        ("pass", "the secret is empty"),
        ("import sys; sys.stdout.buffer.write(bytes([255]))", "not UTF-8"),
    ],
)
def test_a_failing_command_is_told_without_its_output(
    capfd: pytest.CaptureFixture[str], code: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        read_secret(f'command:{sys.executable} -c "{code}"', where="x")
    assert SECRET not in str(caught.value)
    assert SECRET not in "".join(capfd.readouterr())


def test_a_command_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "COMMAND_S_MAX", 0.2)
    with pytest.raises(ConfigError, match=r"did not end within 0\.2 s"):
        read_secret("command:sleep 30", where="x")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("", "not written here"),
        ("hunter2", "not written here"),
        ("postgres:hunter2", "not written here"),
        ("file:", "not written here"),
        ("env:", "not written here"),
        ("command:", "not written here"),
        ("command:   ", "the command is empty"),
        ("command:'unbalanced", "cannot be split"),
        ("command:/no/such/program", "cannot run /no/such/program"),
        ("file:/no/such/file", "cannot read /no/such/file"),
        ("file:/tmp", "is not a file"),
        ("file:/dev/null", "is not a file"),
    ],
)
def test_what_points_nowhere_is_refused(spec: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        read_secret(spec, where="agent.toml: password")
    assert "hunter2" not in str(caught.value)
    assert caught.value.message.startswith("agent.toml: password")


def test_an_empty_or_endless_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the secret is empty"):
        read_secret(f"file:{write(tmp_path / 'empty', chr(10))}", where="x")
    with pytest.raises(ConfigError, match="is larger than"):
        read_secret(f"file:{write(tmp_path / 'large', 'x' * ((1 << 20) + 1))}", where="x")


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigError, match="is not a file"):
        read_secret("file:pipe", where="x", base=tmp_path)
