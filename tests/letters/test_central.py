"""Dead letters of two regions at their coordinator: listed, tried again, discarded, and its own beside them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.aftermath import Aftermath
from coordinator.letters import DeadLetters
from coordinator.store import NewSweep, Store
from paritree.core.deadletters import LetterAction
from paritree.core.errors import ConfigError, PeerError
from paritree.wire.control import LettersOrder

GOOD = [(i, f"name {i}", "1.50") for i in range(1, 6)]
SPOILT = [(i, f"secret\0{i}" if i in (2, 4) else name, amount) for i, name, amount in GOOD]


class Central:
    """The coordinator's side, over the loopback links of :class:`Neighbours`."""

    def __init__(self, neighbours: Any, store: Store) -> None:
        self.neighbours = neighbours
        self.store = store
        self.away: set[str] = set()
        self.begun: list[tuple[str, str]] = []
        self.letters = DeadLetters(store, self.links, ["orders", "users"], begin_again=self.begin_again)
        for region in neighbours.regions:
            store.agent_connected(region, "a1", "i1")

    def links(self) -> dict[str, Any]:
        return {name: link for name, link in self.neighbours.links.items() if name not in self.away}

    async def begin_again(self, sweep_id: str, operator: str) -> None:
        self.begun.append((sweep_id, operator))

    def ask(self, action: str, *ids: str, **more: Any) -> dict[str, Any]:
        order = LettersOrder(LetterAction(action), ids=ids, **more)
        answer = run(self.letters.answer(order, "ops"))
        assert "secret" not in json.dumps(answer), "no value leaves a region"
        return answer

    def listed(self, **more: Any) -> list[dict[str, Any]]:
        return list(self.ask("list", **more)["letters"])

    def sweep(self, dataset: str, sweep_id: str, *, fail: Exception | None = None) -> dict[str, Any]:
        """A sweep as the coordinator makes it, with what it leaves behind."""
        self.store.begin(NewSweep(sweep_id, f"job of {sweep_id}", dataset, ("eu", "us")))

        async def swept(*_: Any, **options: Any) -> dict[str, Any]:
            if fail is not None:
                raise fail
            return dict(await self.neighbours.swept(dataset, sweep_id))

        runner = Aftermath(SimpleNamespace(run=swept), self.letters, self.store)
        try:
            return run(runner.run(SimpleNamespace(name=dataset), ["eu", "us"], sweep_id=sweep_id))  # type: ignore[arg-type]
        except PeerError as error:
            run(runner.failed(sweep_id, str(error)))
            raise


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


@pytest.fixture
def central(neighbours: Any, tmp_path: Path) -> Iterator[Central]:
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        yield Central(neighbours, store)


def test_letters_of_all_regions_by_reason(central: Central) -> None:
    central.neighbours.put(SPOILT)
    assert central.sweep("orders", "s1")["verdict"] == "unknown"
    document = central.ask("list")
    assert document["letters_total"] == 4
    assert {(one["region"], one["dataset"], one["kind"]) for one in document["letters"]} == {
        ("eu", "orders", "row"),
        ("us", "orders", "row"),
    }
    assert len({one["id"] for one in document["letters"]}) == 4, "the same row has another id in each region"
    assert [(one["region"], one["letters"]) for one in document["reasons"]] == [("eu", 2), ("us", 2)]
    assert [(one["name"], one["connected"], one["error"]) for one in document["regions"]] == [
        ("eu", True, None),
        ("us", True, None),
    ]
    assert [one["region"] for one in central.listed(region="us")] == ["us", "us"]
    assert central.listed(dataset="users") == []


def test_a_sweep_leaves_the_letters_in_the_store_for_when_a_region_is_away(central: Central) -> None:
    central.neighbours.put(SPOILT)
    central.sweep("orders", "s1")
    central.away = {"eu", "us"}
    document = central.ask("list")
    assert document["letters_total"] == 4
    assert [(one["connected"], one["as_of"] is None) for one in document["regions"]] == [(False, False)] * 2
    answer = central.ask("replay", document["letters"][0]["id"])
    assert len(answer["letters"]) == 1
    assert any("not connected" in (one["error"] or "") for one in answer["regions"])


def test_replay_clears_letters_and_then_the_verdict(central: Central) -> None:
    central.neighbours.put(SPOILT)
    central.sweep("orders", "s1")
    central.neighbours.put(GOOD)
    answer = central.ask("replay", dataset="orders", region="eu")
    assert (len(answer["cleared"]), answer["letters"], answer["unknown"]) == (2, [], [])
    assert [one["region"] for one in central.listed()] == ["us", "us"]
    assert central.sweep("orders", "s2")["verdict"] == "equal"
    assert central.listed() == [], "the sweep cleared the others"


def test_discarding_is_logged_on_both_sides_and_leaves_the_verdict_unknown(central: Central) -> None:
    central.neighbours.put(SPOILT)
    central.sweep("orders", "s1")
    ids = [one["id"] for one in central.listed()]
    with pytest.raises(ConfigError, match="for a reason"):
        central.ask("discard", *ids)
    answer = central.ask("discard", *ids, reason="test rows")
    assert [(one["state"], one["note"]) for one in answer["letters"]] == [("discarded", "ops: test rows")] * 4
    assert central.listed() == []
    assert len(central.listed(discarded=True)) == 4
    report = central.sweep("orders", "s2")
    assert report["verdict"] == "unknown"
    assert [region["dead_letters"] for region in report["regions"]] == [2, 2]
    acts = central.store.letter_acts()
    assert {(act["operator"], act["action"], act["reason"], act["region"]) for act in acts} == {
        ("ops", "discard", "test rows", region) for region in ("eu", "us")
    }
    for kept in central.neighbours.regions.values():
        (logged,) = (json.loads(line) for line in (kept.spool / "letters.log").read_text().splitlines())
        assert (logged["action"], logged["operator"], logged["reason"]) == ("discard", "ops", "test rows")


def test_ids_that_nobody_has_are_said(central: Central) -> None:
    assert central.ask("replay", "A" * 16)["unknown"] == ["A" * 16]
    with pytest.raises(ConfigError, match="no dataset"):
        central.ask("list", dataset="other")
    with pytest.raises(ConfigError, match="never seen"):
        central.ask("list", region="asia")


def test_messages_that_could_not_be_read_are_kept_without_what_they_say(central: Central) -> None:
    for data in (b"\xffsecret", b"\xffsecret too"):
        run(central.letters.unreadable(data, "a message cannot be read", "spiffe://x/region/eu/agent/a1"))
    (letter,) = central.listed()
    assert (letter["region"], letter["kind"], letter["count"]) == (None, "message", 2)
    assert letter["detail"]["bytes"] == len(b"\xffsecret too")
    assert letter["detail"]["peer"].endswith("eu/agent/a1")
    assert central.ask("replay", letter["id"])["cleared"] == [letter["id"]]


def test_a_job_that_came_to_no_report_is_a_letter_until_one_does(central: Central) -> None:
    central.neighbours.put(GOOD)
    for _ in range(2):
        with pytest.raises(PeerError, match="gave up"):
            central.sweep("orders", "s1", fail=PeerError("gave up after 4 tries"))
    (letter,) = central.listed()
    assert (letter["kind"], letter["dataset"], letter["count"]) == ("job", "orders", 2)
    assert letter["detail"] == {"job_id": "job of s1", "sweep_id": "s1"}
    assert central.ask("replay", letter["id"])["regions"][-1]["error"] is None
    assert central.begun == [("s1", "ops")]
    assert central.listed(), "begun is not done"
    central.sweep("orders", "s1")
    assert central.listed() == []


def test_a_schema_that_drifted_is_listed_and_accepted_from_here(central: Central) -> None:
    import pyarrow as pa

    central.neighbours.put(GOOD)
    central.sweep("orders", "s1")
    central.neighbours.regions["us"].put(GOOD, note=pa.array(["x"] * len(GOOD)))
    assert central.sweep("orders", "s2")["verdict"] == "unknown"
    (letter,) = central.listed()
    assert (letter["region"], letter["kind"], letter["columns"]) == ("us", "schema", ["note"])
    assert central.ask("replay", letter["id"])["cleared"] == [letter["id"]]
    assert central.sweep("orders", "s3")["verdict"] == "equal"
