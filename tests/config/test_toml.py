"""Malformed files and values: the message names file, place and fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from paritree.config.toml import dotted, near, read_toml
from paritree.core.errors import ConfigError


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "some.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a = 1\nb = \n", "line 2, column 5"),
        ("a = 1\na = 2\n", "line 2, column 6"),
        ("[x]\n[x]\n", "line 2, column 3"),
        ('a = "open', "line 1, column 10"),
        ("a = [1,\n2", "line 2, column 2"),
        (b"a = 1\nb = '\xff'\n", "line 2: not UTF-8"),
    ],
)
def test_malformed_toml_names_file_line_and_column(tmp_path: Path, text: str | bytes, place: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_toml(path)
    assert str(path) in caught.value.message
    assert place in caught.value.message


def test_a_file_that_is_absent_or_a_folder_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match=f"{path}: cannot be read") as caught:
            read_toml(path)
        assert caught.value.next_step


def test_deep_nesting_is_an_error_and_no_recursion(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"some\.toml"):
        read_toml(written(tmp_path, "a = " + "[" * 100_000))


def test_readers_refuse_other_kinds(tmp_path: Path) -> None:
    top = read_toml(
        written(tmp_path, 'n = 1\nt = "x"\ne = " "\nl = ["a", "a"]\nm = ["a", 1]\nf = nan\nd = 2024-01-01\n')
    )
    for read, message in (
        (lambda: top.text("n"), r"n: must be text, not a whole number"),
        (lambda: top.text("e"), r"e: is empty"),
        (lambda: top.texts("l"), r"l: 'a' is named twice"),
        (lambda: top.texts("m"), r"m: must be a list of names"),
        (lambda: top.seconds("f"), r"f: must be a finite number"),
        (lambda: top.seconds("d"), r"d: must be a number of seconds, not a date"),
        (lambda: top.section("t"), r"t: must be a table, not text"),
        (lambda: top.choice("t", ("low", "high")), r"t: 'x' is not one of low, high"),
        (lambda: top.needed_text("gone", 'gone = "…"'), r"'gone' is missing"),
        (lambda: top.only("n", "t"), r"e: unknown key"),
    ):
        with pytest.raises(ConfigError, match=message):
            read()


def test_names_that_come_near() -> None:
    assert near("ordrs", ["orders", "users"]) == "did you mean 'orders'?"
    assert near("EU", ["eu", "us"]) == "did you mean 'eu'?"
    assert near("zz", ["eu", "us"]) == "known: eu, us"
    assert near("zz", []) == ""
    assert near("qq", [f"n{i:02}" for i in range(20)]).endswith("n11, ...")


def test_key_paths_are_quoted_as_toml_does() -> None:
    assert dotted(("dataset", "public.orders", "key")) == 'dataset."public.orders".key'
