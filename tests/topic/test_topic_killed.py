"""The first scan of an index that follows a topic is killed: unwritten shards count, if the topic has all since."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.nats import NatsServer
from topic.topic_case import Topical, change, scanned

from edge_agent import build as build_module
from edge_agent.connectors import fileversion
from edge_agent.executors import SerialExecutor
from edge_agent.letters.sweep import SweepLetters
from edge_agent.scan import ScanTask, ShardResult
from paritree.core.messages import Progress

pytestmark = pytest.mark.servers
TICK_S = 0.02


@pytest.fixture
def case(nats: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Topical]:
    """Killed when two of three shards were read."""
    monkeypatch.setattr(fileversion, "SETTLED_NS", int(TICK_S * 1e9))
    made = Topical(nats, tmp_path, "KILLED")
    time.sleep(2 * TICK_S)
    killed(made)
    yield made
    made.close()


def killed(case: Topical) -> None:
    """Begin the scan, and be gone when two shards were read; then another process has the index open."""

    def gone(told: Progress) -> None:
        if told.shards_done >= 2:
            raise SystemExit

    letters = SweepLetters(case.store, case.copy.profile, case.copy.keys, "s1")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("edge_agent.wholescan.WholeScan.left", lambda *_: True)
        with pytest.raises(SystemExit):
            case.index.built(SerialExecutor, case.folder / "sweep", gone, letters)
    case.restart()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shards that are read from now on."""
    labels: list[str] = []
    scan = build_module.scan_shard

    def counted(task: ScanTask) -> ShardResult:
        labels.append(task.shard.label)
        return scan(task)

    monkeypatch.setattr(build_module, "scan_shard", counted)
    return labels


def test_it_goes_on_and_follows(case: Topical, read: list[str]) -> None:
    built = case.built()
    assert read == ["rowid range 2"]
    assert "2 of 3 shards had been read" in str(built.notes)
    assert built.index.sums.root.count == 300
    assert not built.faults
    case.run("UPDATE orders SET code = 'x' WHERE id = 1", "DELETE FROM orders WHERE id = 300")
    case.tell(change("u", None, {"id": 1}), change("d", {"id": 300}, None))
    assert not scanned(case.check())


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("written", "not in the same place"),
        ("purged", "are gone"),
        ("made anew", "made anew"),
        ("another topic", "now it is another topic"),
    ],
)
def test_where_it_is_not_proved_it_begins_anew(case: Topical, read: list[str], what: str, why: str) -> None:
    match what:
        case "written":
            case.run("UPDATE orders SET code = 'x' WHERE id = 1")
            case.tell(change("u", None, {"id": 1}))
        case "purged":
            case.tell(change("u", None, {"id": 1}), change("u", None, {"id": 2}))
            case.nats.asked("STREAM.PURGE.KILLED")
        case "made anew":
            case.nats.asked("STREAM.DELETE.KILLED")
            case.nats.make("KILLED", "shop.>")
        case _:
            case.restart(subject="shop.main.others")
    time.sleep(2 * TICK_S)
    built = case.built()
    assert read[:3] == ["rowid range 0", "rowid range 1", "rowid range 2"]
    assert why in built.notes[-1]
    assert not scanned(case.check())
