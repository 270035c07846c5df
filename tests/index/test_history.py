"""An index after any history of changes, replaced shards, compaction and restarts is the index that a scan makes."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from indexed import contents, reached

from edge_agent.build import Copy
from edge_agent.connectors.changes import ChangeBatch, ChangeSource, Lag, Mark
from edge_agent.connectors.contract import Source
from edge_agent.connectors.memory.connector import MemoryConnector
from edge_agent.connectors.memory.store import MemoryStore
from edge_agent.index import compaction
from edge_agent.index.changes import Replaced, Rescanned
from edge_agent.index.compaction import compact
from edge_agent.index.durable import DurableIndex
from edge_agent.index.installing import Scan
from edge_agent.index.recount import recount
from edge_agent.index.rest import RestKey
from edge_agent.index.state import Identity
from edge_agent.refresh import Refresher
from edge_agent.scan import ScanTask, scan_shard
from paritree.core.digest import DatasetKeys
from paritree.core.leaves import LeafSums
from paritree.core.profile import Binding, BoundColumn, Profile
from paritree.core.sketch import empty_probe, empty_sketch
from paritree.core.types import LogicalType, parse_type

PARTS = ("p0", "p1", "p2")
KEYS = DatasetKeys.of(bytes(32), "orders")
NAMES = tuple("aAbBcCdDeEfFgGhH")
Row = tuple[str, str]
_stores = itertools.count()


class Told(ChangeSource):
    """A change source that tells the keys that it is given, and proves nothing."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.position = 0

    @property
    def name(self) -> str:
        return "told"

    def check(self) -> list[str]:
        return []

    def start(self) -> Mark:
        return Mark("0", "0")

    def changes(self, since: Mark, *, proven: bool, keys_max: int = 3) -> Iterator[ChangeBatch]:
        for first in range(0, len(self.keys), keys_max):
            some = self.keys[first : first + keys_max]
            yield ChangeBatch(pa.record_batch({"name": pa.array(some, pa.utf8())}), None, len(some))
        self.position += 1
        mark = Mark(str(self.position), str(self.position))
        yield ChangeBatch(pa.record_batch({"name": pa.array([], pa.utf8())}), mark, 0)

    def acknowledge(self, mark: Mark) -> None:
        assert mark.state == str(self.position)

    def lag(self) -> Lag:
        return Lag(0)

    def stop(self) -> None: ...

    def close(self) -> None: ...


class History(RuleBasedStateMachine):
    """A table in three parts, whose rows move, are lost and repeated, and the durable index that follows it.

    What was changed is told as a dirty key, or else its part is scanned again; between the two the index may lag.
    """

    key_type = parse_type("text")
    rest_key: RestKey | None = None

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="paritree-index-"))
        self.store = MemoryStore(f"history-{next(_stores)}")
        names = iter(NAMES)
        self.tables: dict[str, list[Row]] = {part: [(next(names), "1") for _ in range(3)] for part in PARTS}
        kinds = {"name": self.key_type, "amount": parse_type("decimal")}
        profile = Profile("orders", ("name",), kinds)
        columns = tuple(BoundColumn(n, t, source=n) for n, t in kinds.items())
        binding = Binding("orders", "orders", ("name",), columns)
        self.copy = Copy(Source(self.store.url), profile, binding, KEYS, 1_000, "plain")
        self.identity = Identity("orders", b"p", 1, b"b", b"k", b"s", ruled=self.key_type != self.key_type.bare)
        self.dirty: set[str] = set()
        self.stale: set[str] = set()
        self.told: set[str] = set()
        self.source = Told()
        self.put()
        self.index = self.opened()
        assert self.index.why_not
        shards = [self.scanned(part) for part in PARTS]
        self.index.install(Scan([s.scanned for s in shards], *summed(shards)), reached("0", b"0"), engine="memory")

    def opened(self) -> DurableIndex:
        return DurableIndex.open(self.folder / "index", self.identity, digester="plain", key=self.rest_key)

    def put(self) -> None:
        for name, rows in [*self.tables.items(), ("orders", list(itertools.chain(*self.tables.values())))]:
            columns = [pa.array([row[i] for row in rows], pa.utf8()) for i in range(2)]
            self.store.put(name, pa.table(columns, names=["name", "amount"]), key=("name",))

    def scanned(self, part: str, path: Path | None = None) -> Rescanned:
        with MemoryConnector.connect(self.copy.source) as connector:
            binding = replace(self.copy.binding, table=part)
            plan = connector.plan(binding, 10_000)
            run_path = path or self.index.run_path()
            task = ScanTask(
                self.copy.source, binding, self.copy.profile, KEYS, plan.shards[0], run_path, "plain",
                rest_key=None if path else self.rest_key,
            )  # fmt: skip
            return Rescanned(part, plan.shards[0], scan_shard(task), 1.0)

    # --- what happens to the table ------------------------------------------------------------------------------------

    @rule(part=st.sampled_from(PARTS), name=st.sampled_from(NAMES), amount=st.sampled_from(["1", "2", "no number"]))
    def insert(self, part: str, name: str, amount: str) -> None:
        self.tables[part].append((name, amount))
        self.changed(part, name)

    @rule(part=st.sampled_from(PARTS), at=st.integers(0, 4), amount=st.sampled_from(["1", "2", "3", "no number"]))
    def update(self, part: str, at: int, amount: str) -> None:
        if at < len(rows := self.tables[part]):
            rows[at] = (rows[at][0], amount)
            self.changed(part, rows[at][0])

    @rule(part=st.sampled_from(PARTS), at=st.integers(0, 4))
    def delete(self, part: str, at: int) -> None:
        if at < len(rows := self.tables[part]):
            self.changed(part, rows.pop(at)[0])

    @rule(part=st.sampled_from(PARTS), other=st.sampled_from(PARTS), at=st.integers(0, 4))
    def move(self, part: str, other: str, at: int) -> None:
        if at < len(rows := self.tables[part]):
            row = rows.pop(at)
            self.tables[other].append(row)
            self.changed(part, row[0])
            self.changed(other, row[0])

    def changed(self, part: str, name: str) -> None:
        """Told as a change; or, if no change ever brought this key, found by the next scan of its part."""
        if len(self.tables[part]) % 2 and name.lower() not in self.told:
            self.stale.add(part)
        else:
            self.dirty.add(name)
            self.told.add(name.lower())
        self.put()

    # --- what happens to the index ------------------------------------------------------------------------------------

    @rule(share=st.integers(1, 3), twice=st.booleans())
    def refresh(self, share: int, twice: bool) -> None:
        self.source.keys = sorted(self.dirty)[: len(self.dirty) // share]
        with MemoryConnector.connect(self.copy.source) as connector:
            for _ in range(1 + twice):
                Refresher(self.copy, connector, self.source, self.index).refresh(proven=False)
        self.dirty -= set(self.source.keys)

    @rule(parts=st.sets(st.sampled_from(PARTS), min_size=1))
    def rescan(self, parts: set[str]) -> None:
        outcome = self.index.replace([self.scanned(part) for part in sorted(parts)])
        self.stale -= parts
        self.again(outcome)

    @rule(part=st.sampled_from(PARTS))
    def drop(self, part: str) -> None:
        """The part has gone, with its rows, and may come back under its name."""
        for name, _ in self.tables[part]:
            self.told.add(name.lower())
            self.dirty.add(name)
        self.tables[part].clear()
        self.put()
        self.again(self.index.replace([], dropped=[part]))
        self.stale.discard(part)

    def again(self, outcome: Replaced) -> None:
        """What a scan leaves unsettled is read again."""
        names = {locator[2:].decode() for locators in outcome.unsettled.values() for locator in locators}
        self.dirty |= names
        self.told |= {name.lower() for name in names}

    @rule()
    def compact(self) -> None:
        while compact(self.index):
            pass

    @rule()
    def reopen(self) -> None:
        self.index.close()
        self.index = self.opened()
        assert self.index.why_not == ""

    @precondition(lambda self: hasattr(self, "index"))
    @invariant()
    def sums_are_those_of_its_rows(self) -> None:
        view = self.index.view()
        assert recount(view.layers, "plain", ruled=self.identity.ruled).differs(view.state) == ""

    @rule()
    def settle(self) -> None:
        """Once everything was told and scanned, the index is what a scan makes of the table."""
        if self.stale:
            self.rescan(set(self.stale))
        self.refresh(1, False)
        self.equals_a_rebuild()

    def equals_a_rebuild(self) -> None:
        folder = self.folder / f"fresh-{next(_stores)}"
        fresh = DurableIndex.open(folder, self.identity, digester="plain")
        whole = self.scanned("orders", fresh.run_path())
        fresh.install(Scan([whole.scanned], *summed([whole])), reached("x"), engine="memory")
        dead = {name.lower() if self.identity.ruled else name for name, amount in self.everything if amount[0] == "n"}
        held, new = self.index.view(), fresh.view()
        assert living(self.index, dead) == living(fresh, dead)
        assert Counter(row[0::2] for row in contents(self.index)) == Counter(row[0::2] for row in contents(fresh))
        assert (held.state.rows, held.state.duplicates) == (new.state.rows, new.state.duplicates)
        assert dict(held.state.dead) == dict(new.state.dead)
        if not dead:
            assert held.state.sums.root == new.state.sums.root
            assert np.array_equal(held.state.probe.sketch.sums, new.state.probe.sketch.sums)
            sketches = [empty_sketch(64, 7), empty_sketch(64, 7)]
            for view, sketch in zip((held, new), sketches, strict=True):
                list(view.index.add_to(sketch, 1, np.array([0, 1], np.uint64)))
            assert np.array_equal(sketches[0].sums, sketches[1].sums)
            lists = [view.index.rows_below(2, np.arange(4, dtype=np.uint64)) for view in (held, new)]
            assert lists[0].counts.tolist() == lists[1].counts.tolist()
            below = [sorted(zip(one.k.tolist(), one.r.tolist(), one.r2.tolist(), strict=True)) for one in lists]
            assert below[0] == below[1]
            deep = [view.index.children(0, 14, np.zeros(1, np.uint64)) for view in (held, new)]
            assert np.array_equal(deep[0], deep[1])
        fresh.close()
        shutil.rmtree(folder)

    @property
    def everything(self) -> list[Row]:
        return list(itertools.chain(*self.tables.values()))

    def teardown(self) -> None:
        if hasattr(self, "index"):
            self.settle()
            self.index.close()
            self.store.close()
            shutil.rmtree(self.folder)


def living(index: DurableIndex, dead: set[str]) -> Counter[Any]:
    """The rows of keys that have no dead letter, whose digests are random."""

    def text(locator: bytes) -> str:
        name = locator[2:].decode()
        return name.lower() if index.identity.ruled else name

    return Counter({row: count for row, count in contents(index).items() if text(row[2]) not in dead})


def summed(shards: list[Rescanned]) -> tuple[LeafSums, Any]:
    total, probe = LeafSums.zero(12), empty_probe()
    for one in shards:
        total, probe = total.plus(one.result.sums), probe.plus(one.result.probe)
    return total, probe


class MergedKeys(History):
    """Keys that differ in case only are one key of the index, and several of the table."""

    key_type = LogicalType("text", rules=("casefold",))


class Encrypted(History):
    rest_key = RestKey(bytes(range(32)))


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a handful of rows is merged and folded."""
    monkeypatch.setattr(compaction, "SMALLEST_ROWS", 2)
    monkeypatch.setattr(compaction, "FOLDED_ROWS_MIN", 6)
    monkeypatch.setattr(compaction, "FAN_IN", 2)


_SETTINGS = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.parametrize("machine", [History, MergedKeys, Encrypted])
def test_any_history_ends_in_the_index_that_a_scan_makes(machine: type[History], small_sizes: None) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(machine, settings=_SETTINGS)
