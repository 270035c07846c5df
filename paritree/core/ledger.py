"""The byte ledger: every message that was really put on or taken from a stream, by class and by sweep.

*Sent* and *received* are always meant from the region, whichever side counts: what an agent writes is sent, what it
reads is received. So the ledger of an agent and the coordinator's ledger of that region show the same numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from paritree.core.limits import SWEEPS_COUNTED_MAX
from paritree.core.messages import ByteClass

MESSAGE_PREFIX_BYTES: Final = 5
"""gRPC puts a compression flag (1 byte) and the length (4 bytes) before each message."""
CONNECTION: Final = ""
"""The sweep id under which messages of no sweep are counted: Hello, Welcome, and what nobody asked for."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Bytes by class, as seen from the region. Classes without bytes are absent from the mappings."""

    sent: Mapping[ByteClass, int] = field(default_factory=dict)
    received: Mapping[ByteClass, int] = field(default_factory=dict)

    @property
    def bytes_sent(self) -> int:
        return sum(self.sent.values())

    @property
    def bytes_received(self) -> int:
        return sum(self.received.values())

    @property
    def by_class(self) -> dict[ByteClass, int]:
        """Both ways together, every class named: the ``bytes`` of the report."""
        return {kind: self.sent.get(kind, 0) + self.received.get(kind, 0) for kind in ByteClass}

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            dict(Counter(self.sent) + Counter(other.sent)), dict(Counter(self.received) + Counter(other.received))
        )


class _Account:
    """The two running counts of one sweep."""

    def __init__(self) -> None:
        self.sent: Counter[ByteClass] = Counter()
        self.received: Counter[ByteClass] = Counter()

    def tally(self) -> Tally:
        return Tally(dict(self.sent), dict(self.received))


class ByteLedger:
    """Counts messages of one region. Not thread-safe: it lives on one event loop."""

    def __init__(self) -> None:
        self._total = _Account()
        self._sweeps: dict[str, _Account] = {}

    def count_sent(self, kind: ByteClass, message_bytes: int, sweep_id: str = CONNECTION, *, sketched: int = 0) -> None:
        """The region sent one message of ``message_bytes`` serialized bytes, ``sketched`` of which are a sketch."""
        for account in (self._total, self._account(sweep_id)):
            account.sent[kind] += message_bytes + MESSAGE_PREFIX_BYTES - sketched
            if sketched:
                account.sent[ByteClass.SKETCHES] += sketched

    def count_received(self, kind: ByteClass, message_bytes: int, sweep_id: str = CONNECTION) -> None:
        """The region received one message of ``message_bytes`` serialized bytes."""
        for account in (self._total, self._account(sweep_id)):
            account.received[kind] += message_bytes + MESSAGE_PREFIX_BYTES

    def _account(self, sweep_id: str) -> _Account:
        account = self._sweeps.get(sweep_id)
        if account is None:
            account = self._sweeps[sweep_id] = _Account()
            if len(self._sweeps) > SWEEPS_COUNTED_MAX:
                del self._sweeps[next(oldest for oldest in self._sweeps if oldest != CONNECTION)]
        return account

    def total(self) -> Tally:
        """All that was ever counted, forgotten sweeps included."""
        return self._total.tally()

    def of(self, sweep_id: str) -> Tally:
        """What one sweep cost (``CONNECTION``: what belongs to no sweep); empty when nothing was counted."""
        account = self._sweeps.get(sweep_id)
        return account.tally() if account else Tally()

    def knows(self, sweep_id: str) -> bool:
        """True when something was counted for the sweep and it was not forgotten."""
        return sweep_id in self._sweeps

    def forget(self, sweep_id: str) -> Tally:
        """Drop the account of a finished sweep, so that a long-lived link does not grow; returns what it held."""
        account = self._sweeps.pop(sweep_id, None)
        return account.tally() if account else Tally()
