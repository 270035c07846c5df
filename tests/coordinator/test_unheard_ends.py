"""Which ends of sweeps a region is still told."""

from __future__ import annotations

from coordinator.ends import UnheardEnds
from paritree.core.messages import AskRoot, End


def test_a_sweep_that_goes_on_is_not_ended_later() -> None:
    """Left open as the store was away, and taken up: its Begin is in the journal, and is not said again."""
    ends, question = UnheardEnds(), AskRoot("orders", b"p" * 16, 1, 5.0)  # any question of the sweep
    ends.asked("sweep-1", End())
    ends.asked("sweep-1", question)
    assert ends.take(opening="sweep-2") == []
