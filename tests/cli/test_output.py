"""Exit codes, errors, and what goes to which stream."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest
import typer

from paritree.cli import output
from paritree.cli.output import Session, error_code, handled, printable, report_code, show, show_error, worst
from paritree.core.errors import ConfigError, DeadLetter, InvariantBroken, PeerError, SourceError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (PeerError("x"), 3),
        (SourceError("x"), 3),
        (DeadLetter("x"), 3),
        (InvariantBroken("x"), 70),
        (ZeroDivisionError("x"), 70),
        (EOFError(), 70),
        (KeyboardInterrupt(), 130),
        (typer.Abort(), 130),
        (BrokenPipeError(), 141),
    ],
)
def test_no_error_looks_like_a_verdict(error: BaseException, code: int) -> None:
    assert error_code(error) == code
    assert code not in (0, 1)


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([], 0),
        ([0, 0], 0),
        ([0, 3], 3),
        ([3, 1, 0], 1),
        ([1, 4, 3], 4),
        ([2, 1], 1),
        ([2, 3], 2),
        ([1, 130], 130),
        ([1, 70], 70),
    ],
)
def test_the_worst_outcome_wins_and_a_difference_is_never_hidden(codes: list[int], code: int) -> None:
    assert worst(codes) == code


def test_a_report_without_a_known_verdict_is_unknown() -> None:
    assert report_code({"verdict": "equal"}) == 0
    assert report_code({"verdict": "EQUAL"}) == 3
    assert report_code({}) == 3


def test_errors_go_to_stderr_with_the_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_error(ConfigError("no such file", next_step="make it"), Session()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "error: no such file\n  make it\n"


def test_with_json_an_error_is_a_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(PeerError("gone", next_step="wait"), Session(json=True))
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"error": {"message": "gone", "next_step": "wait", "exit_code": 3}}
    assert "error: gone" in shown.err


def test_an_internal_error_is_short_and_says_nothing_of_values(capsys: pytest.CaptureFixture[str]) -> None:
    error = ValueError("the value 4711")
    assert show_error(error, Session()) == 70
    assert "4711" not in capsys.readouterr().err
    show_error(error, Session(debug=True))
    shown = capsys.readouterr().err
    assert "ValueError: the value 4711" in shown
    assert "please report" in shown


def test_what_a_terminal_would_obey_is_shown_instead(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(PeerError("a\x1b[2Jb\x07\u202e"), Session())
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert "\\x1b[2J" in shown
    assert printable("ключ\n") == "ключ\n"


def test_results_are_one_json_document_or_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show({"ключ": 1}, lambda _: ["never"], as_json=True)
    assert capsys.readouterr().out == '{"ключ": 1}\n'
    show({"a": 1}, lambda document: [f"a is {document['a']}", "done"], as_json=False)
    assert capsys.readouterr().out == "a is 1\ndone\n"


def test_a_narrow_or_odd_character_does_not_lose_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    show({"key": "ключ \ud800"}, lambda _: (), as_json=True)
    assert written.getvalue() == b'{"key": "\\u043a\\u043b\\u044e\\u0447 \\ud800"}\n'
    assert json.loads(written.getvalue())["key"] == "ключ \ud800"
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    show({}, lambda _: ["surrogate \ud800"], as_json=False)


def run(raised: BaseException | None) -> int:
    """The exit code of a command that raises."""
    app = output.command_app("test")

    @app.command()
    def command(ctx: typer.Context, as_json: output.JsonFlag = False) -> None:
        with handled(ctx):
            if raised is not None:
                raise raised

    with pytest.raises(SystemExit) as caught:
        app(["--json"])
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (None, 0),
        (typer.Exit(1), 1),
        (typer.BadParameter("x"), 2),
        (typer.Abort(), 130),
        (KeyboardInterrupt(), 130),
        (EOFError(), 70),
        (PeerError("x"), 3),
        (OSError("x"), 70),
    ],
)
def test_every_way_out_of_a_command(raised: Any, code: int) -> None:
    assert run(raised) == code
