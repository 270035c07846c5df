"""An agent that is killed at any step of keeping dead letters: nothing is lost, doubled or damaged."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from typing import Any

import pytest

from edge_agent.letters import shardfile, store
from paritree.core.deadletters import LetterState

GOOD = [(i, f"name {i}", "1.50") for i in range(1, 6)]
KILLED = 99


def spoilt(*ids: int) -> list[tuple[Any, ...]]:
    return [(i, f"x\0{i}" if i in ids else name, amount) for i, name, amount in GOOD]


class Steps:
    """Ends the process before its n-th step: a statement of the store, a file put in place, a file removed."""

    def __init__(self, last: int) -> None:
        self.left = last

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            os._exit(KILLED)


def stepping(steps: Steps) -> None:
    """Let everything that reaches the disk be a step."""

    class Connection(sqlite3.Connection):
        def execute(self, *arguments: Any) -> sqlite3.Cursor:
            steps()
            return super().execute(*arguments)

    connect, replace, unlink = sqlite3.connect, os.replace, shardfile.Path.unlink

    def stepped(call: Callable[..., Any]) -> Callable[..., Any]:
        def before(*arguments: Any, **options: Any) -> Any:
            steps()
            return call(*arguments, **options)

        return before

    store.sqlite3.connect = lambda *a, **k: connect(*a, factory=Connection, **k)  # type: ignore[assignment]
    shardfile.os.replace = stepped(replace)
    shardfile.Path.unlink = stepped(unlink)  # type: ignore[method-assign]


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Do it in a child that is killed before that step; False where it ended before."""
    child = os.fork()
    if child == 0:
        try:
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - closed with the process
            stepping(Steps(step))
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a child must not go on as its parent
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, KILLED), code
    return code == KILLED


def sound(kept: Any) -> None:
    with sqlite3.connect(kept.spool / store.FILE) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def doing(kept: Any, work: str, by_key: dict[int, str]) -> object:
    match work:
        case "sweep":
            return kept.sweep("killed")
        case "replay":
            return kept.ask("replay", by_key[2], by_key[3])
        case _:
            return kept.ask("discard", by_key[3], reason="known too")


@pytest.mark.parametrize("work", ["sweep", "replay", "discard"])
def test_every_step(kept: Any, work: str) -> None:
    """Before: letters of rows 1 (discarded), 2 and 3. Then 2 is good, and 4 is not."""
    steps = 0
    while True:
        kept.desk.store.clear([letter.id for letter in kept.ask("list").letters])
        kept.put(spoilt(1, 2, 3))
        kept.sweep(f"before-{steps}")
        by_key = {one.content["payload"]["key"]["id"]: one.letter.id for one in shown(kept)}
        kept.ask("discard", by_key[1], reason="known")
        kept.put(spoilt(1, 3, 4))
        kept.desk.open([], operator="", purpose="")  # the log is there: its steps are not the store's
        more = killed_at(steps, lambda by_key=by_key: doing(kept, work, by_key))
        sound(kept)
        listed = {letter.id: letter for letter in kept.ask("list").letters}
        assert by_key[1] in listed, "what was not touched is there"
        assert by_key[3] in listed, "and so is what still fails"
        assert listed[by_key[1]].state is LetterState.DISCARDED
        kept.sweep("after")
        listed = {letter.id: letter for letter in kept.ask("list").letters}
        assert len(listed) == 3
        assert by_key.keys() - {2} == {key for key, one in by_key.items() if one in listed}
        assert listed[by_key[1]].state is LetterState.DISCARDED
        assert not list((kept.spool / "after").glob("*.letters*"))
        if not more:
            break
        steps += 1
    assert steps > 10


def shown(kept: Any) -> list[Any]:
    return kept.desk.open([letter.id for letter in kept.ask("list").letters], operator="", purpose="")
