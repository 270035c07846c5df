"""The byte ledger: every message once, by class, by sweep."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from paritree.core.ledger import CONNECTION, MESSAGE_PREFIX_BYTES, ByteLedger, Tally
from paritree.core.limits import SWEEPS_COUNTED_MAX
from paritree.core.messages import ByteClass

kinds = st.sampled_from(ByteClass)
messages = st.lists(
    st.tuples(st.booleans(), kinds, st.integers(0, 1 << 20), st.sampled_from([CONNECTION, "s1", "s2"])), max_size=60
)


def counted(entries: list[tuple[bool, ByteClass, int, str]]) -> ByteLedger:
    ledger = ByteLedger()
    for sent, kind, size, sweep_id in entries:
        (ledger.count_sent if sent else ledger.count_received)(kind, size, sweep_id)
    return ledger


@given(messages)
def test_classes_and_sweeps_add_up_to_all_bytes(entries: list[tuple[bool, ByteClass, int, str]]) -> None:
    ledger = counted(entries)
    whole = ledger.total()
    expected = sum(size + MESSAGE_PREFIX_BYTES for _, _, size, _ in entries)
    assert whole.bytes_sent + whole.bytes_received == sum(whole.by_class.values()) == expected
    assert set(whole.by_class) == set(ByteClass)
    assert ledger.of(CONNECTION) + ledger.of("s1") + ledger.of("s2") == whole


@given(messages)
def test_a_forgotten_sweep_stays_in_the_total(entries: list[tuple[bool, ByteClass, int, str]]) -> None:
    ledger = counted(entries)
    whole, one = ledger.total(), ledger.of("s1")
    assert ledger.forget("s1") == one
    assert ledger.forget("s1") == ledger.of("s1") == Tally()
    assert not ledger.knows("s1")
    assert ledger.total() == whole


def test_a_sketch_inside_a_message_is_counted_apart() -> None:
    ledger = ByteLedger()
    ledger.count_sent(ByteClass.NODES, 100, "s1", sketched=60)
    assert ledger.of("s1").sent == {ByteClass.NODES: 40 + MESSAGE_PREFIX_BYTES, ByteClass.SKETCHES: 60}


def test_old_sweeps_make_room() -> None:
    ledger = ByteLedger()
    ledger.count_sent(ByteClass.CONTROL, 1)
    for number in range(SWEEPS_COUNTED_MAX + 10):
        ledger.count_sent(ByteClass.NODES, 1, f"s{number}")
    assert not ledger.knows("s0")
    assert ledger.knows(f"s{SWEEPS_COUNTED_MAX + 9}")
    assert ledger.of(CONNECTION).bytes_sent == 6
    assert ledger.total().bytes_sent == 6 * (SWEEPS_COUNTED_MAX + 11)
