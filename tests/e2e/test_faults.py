"""Every fault of a connection × every exchange × each direction, over real processes and TLS.

A sweep ends with the right findings or with ``unknown`` and a reason, in bounded time; it never says ``equal``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from faults import LASTING, STALL_S, Direction, Fault, Kind
from faulty import EXCHANGE_TIMEOUT_S, LIMITS, PATIENCE_S, PAUSE_S, TABLES, Wired, wired

from paritree.core.deadletters import LetterAction
from paritree.wire.control import LettersOrder

pytestmark = pytest.mark.asyncio(loop_scope="module")
HANG_S: Final = 60.0
"""A sweep that takes longer hangs."""
SLACK_S: Final = 1.0
"""Of a busy machine."""
TRIES: Final = 3
"""Of a fault after which a sweep took too long: a machine that stops for a moment does so once, whoever waits for too
much does so always."""
EXCHANGES: Final = (
    ("few", "Begin", "Ready", 1),
    ("many", "AskSketch", "Sketched", 1),
    ("tree", "AskChildren", "Children", 1),
    ("tree", "AskLists", "Lists", 1),
    ("few", "AskDetail", "Details", 1),
    ("few", "AskAgain", "Details", 2),
    ("range", "AskKeep", "Kept", 1),
    ("few", "AskReveal", "Revealed", 1),
    ("few", "End", "Ended", 1),
)
"""A dataset in whose sweep the exchange occurs, its request, its answer, and which one of that kind it is."""
MESSAGES: Final = [
    *((dataset, request, Direction.DOWN, 1) for dataset, request, _, _ in EXCHANGES),
    *((dataset, answer, Direction.UP, nth) for dataset, _, answer, nth in EXCHANGES),
]
INSIDE: Final = {"Ready": 6_000, "Sketched": 20_000, "Lists": 4_000}
"""Where in long answers a fault strikes, in bytes; in others at their beginning."""
LETTERED: Final = "lettered"
"""The dataset that has a dead letter, of eu."""
DETECTION_S: Final = 3 * float(LIMITS["KEEPALIVE_S"]) + EXCHANGE_TIMEOUT_S
BACKOFF_S: Final = 3.0 * PAUSE_S + 3.0 * float(LIMITS["RECONNECT_S_MIN"])
"""Two failures in a row of one exchange, and of dialling: pauses below a bound that doubles."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, pki_dir: Path) -> AsyncIterator[Wired]:
    tables = {**TABLES, LETTERED: (3, 0, 0)}
    async with wired(tmp_path_factory.mktemp("faults"), pki_dir, tables) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clean(site: Wired) -> dict[str, tuple[dict[str, Any], float]]:
    """What undisturbed sweeps report, and the seconds they take at most of two."""
    found = {}
    for name in TABLES:
        _, first = await site.swept(name, purpose="audit")
        report, second = await site.swept(name, purpose="audit")
        assert report["verdict"] == "different"
        found[name] = (report, max(first, second))
    return found


def what(report: dict[str, Any]) -> list[Any]:
    """The findings but for what depends on the sweep's id."""
    if report["findings"] and report["findings"][0]["kind"] == "range":
        return [(finding["kind"], finding["rows"]) for finding in report["findings"] if finding["kind"] == "range"]
    return sorted((f["kind"], f["token"], tuple(map(tuple, f["groups"]))) for f in report["findings"])


async def disturbed(site: Wired, dataset: str) -> tuple[dict[str, Any], float]:
    """A sweep, which must not hang."""
    try:
        async with asyncio.timeout(HANG_S):
            return await site.swept(dataset, purpose="audit")
    except TimeoutError:
        logs = "\n".join(site.fleet.log(name)[-3_000:] for name in ("coordinator", "agent-eu"))
        pytest.fail(f"the sweep hangs; said so far: {site.hooks.heard}\n{logs}")


def demand_right(report: dict[str, Any], expected: dict[str, Any]) -> None:
    assert what(report) == what(expected), report["verdicts"]
    assert report["verdict"] == "different"
    assert [stated["verdict"] for stated in report["verdicts"]] == ["different"]


async def demand_in_time(
    site: Wired, dataset: str, disturb: Callable[[], Awaitable[float]], usual_s: float, more_s: float
) -> None:
    """A disturbed sweep takes ``more_s`` beside twice the usual time at most.

    Where it took longer, what is usual is measured once more: the machine may be busier than it was.
    """
    for _ in range(TRIES):
        took_s = await disturb()
        if took_s <= 2 * usual_s + more_s + SLACK_S:
            return
        _, now_s = await site.swept(dataset, purpose="audit")
        usual_s = max(usual_s, now_s)
    assert took_s <= 2 * usual_s + more_s + SLACK_S


@pytest.mark.parametrize(("dataset", "message", "direction", "nth"), MESSAGES, ids=lambda value: str(value))
@pytest.mark.parametrize("kind", sorted(set(Kind) - LASTING))
async def test_a_fault_that_strikes_one_message_costs_time_only(
    site: Wired, clean: Any, kind: Kind, dataset: str, message: str, direction: Direction, nth: int
) -> None:
    expected, usual_s = clean[dataset]

    async def struck() -> float:
        await site.connected("eu", "us")
        site.hooks.strike(Fault(kind, direction, INSIDE.get(message, 30)), message, nth)
        report, took_s = await disturbed(site, dataset)
        site.struck()
        site.proxy.heal()
        demand_right(report, expected)
        return took_s

    fault_s = {Kind.STALL: max(STALL_S, DETECTION_S), Kind.HALF_OPEN: DETECTION_S}.get(kind, 0.0)
    await demand_in_time(site, dataset, struck, usual_s, fault_s + BACKOFF_S)


@pytest.mark.parametrize("dataset", TABLES)
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("kind", sorted(LASTING))
async def test_a_fault_that_lasts_for_a_whole_sweep_slows_it(
    site: Wired, clean: Any, kind: Kind, direction: Direction, dataset: str
) -> None:
    await site.connected("eu", "us")
    site.proxy.arm(Fault(kind, direction))
    try:
        report, _ = await disturbed(site, dataset)
    finally:
        site.proxy.heal()
    demand_right(report, clean[dataset][0])


async def letters(site: Wired, action: LetterAction, *ids: str) -> tuple[list[str], str | None]:
    """The states of eu's letters after an order, and what the order failed of there."""
    order = LettersOrder(action, LETTERED, "eu", ids, reason="a test", discarded=True)
    async with asyncio.timeout(HANG_S):
        told = await site.operator.letters(order)
    eu = next(region for region in told["regions"] if region["name"] == "eu")
    return [letter["state"] for letter in told["letters"]], eu["error"]


async def spoilt(site: Wired) -> str:
    """A row of eu cannot be compared; its letter."""
    await site.connected("eu", "us")
    site.written("eu", f"UPDATE {LETTERED} SET name = 'a' || char(0) WHERE id = 1")
    report, _ = await site.swept(LETTERED)
    assert report["verdict"] == "unknown"
    listed = await site.operator.letters(LettersOrder(LetterAction.LIST, LETTERED))
    [(region, state, letter)] = [(one["region"], one["state"], one["id"]) for one in listed["letters"]]
    assert (region, state) == ("eu", "open")
    return str(letter)


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("action", LetterAction)
async def test_an_order_about_dead_letters_meets_every_fault(
    site: Wired, action: LetterAction, kind: Kind, direction: Direction
) -> None:
    """It is tried once: what fails is said beside the region, changes all or nothing, and works when said again."""
    letter = await spoilt(site)
    if action is LetterAction.REPLAY:
        site.written("eu", f"UPDATE {LETTERED} SET name = 'row 1' WHERE id = 1")
    after = {LetterAction.LIST: ["open"], LetterAction.REPLAY: [], LetterAction.DISCARD: ["discarded"]}[action]
    nth = 1 if action is LetterAction.LIST else 2  # the others look at the list first
    site.hooks.strike(Fault(kind, direction, 10), "AskLetters" if direction is Direction.DOWN else "Letters", nth)
    states, error = await letters(site, action, letter)
    if kind not in LASTING:
        site.struck()
    site.proxy.heal()
    if kind in LASTING:
        assert error is None
    elif kind is not Kind.STALL or error:  # a stall may be longer than the connection is believed in
        assert error is not None
        assert "connection to the agent was cut" in error
    assert states == after if error is None else states in (["open"], after)
    await site.connected("eu")
    assert await letters(site, action, letter) == (after, None)
    site.written("eu", f"UPDATE {LETTERED} SET name = 'row 1' WHERE id = 1")
    assert await letters(site, LetterAction.REPLAY, letter) == ([], None)


@pytest.mark.parametrize("message", ["Begin", "AskDetail", "AskAgain"])
async def test_a_region_that_stays_away_is_unknown_with_the_reason(site: Wired, clean: Any, message: str) -> None:
    """Nothing arrives any more and no new connection comes about; when it does again, so does the right result."""
    expected, usual_s = clean["few"]

    async def away() -> float:
        await site.connected("eu", "us")
        site.hooks.strike(Fault(Kind.RESET, Direction.DOWN, 10), message)
        site.proxy.refusing = True
        report, took_s = await disturbed(site, "few")
        site.struck()
        site.proxy.heal()
        assert report["verdict"] == "unknown"
        assert any("eu" in stated["regions"] and stated["reason"] for stated in report["verdicts"]), report["verdicts"]
        return took_s

    gone: list[float] = []

    async def back() -> float:
        gone.append(await away())
        await site.connected("eu", "us")
        report, took_s = await disturbed(site, "few")
        demand_right(report, expected)
        return took_s

    async def away_or_gone() -> float:
        return gone.pop() if gone else await away()

    tries_s = max(PATIENCE_S, PAUSE_S * 7)  # three pauses below a bound that doubles, or until patience ends
    await demand_in_time(site, "few", back, usual_s, 0.0)
    await demand_in_time(site, "few", away_or_gone, usual_s, EXCHANGE_TIMEOUT_S + tries_s)
