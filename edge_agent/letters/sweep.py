"""What one sweep finds: its dead letters on their way into the store, and the table's schema before and after it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import structlog

from edge_agent.connectors.contract import Connector
from edge_agent.letters.found import Found, found, identity_of, key_identity
from edge_agent.letters.refreshed import RefreshLetters
from edge_agent.letters.shardfile import letters_path, take_letters
from edge_agent.letters.store import LetterStore, Listed
from paritree.core.deadletters import LetterKind
from paritree.core.digest import DatasetKeys
from paritree.core.drift import changed_columns, described, differences
from paritree.core.errors import ConfigError, ParitreeError, SourceError
from paritree.core.fitting import check_binding
from paritree.core.profile import Binding, Profile
from paritree.core.schema import TableSchema

UNREADABLE: Final = "a part of the table that the source could not read"
"""The source's own words may quote values: they are in the payload."""
_log = structlog.get_logger("paritree.agent")


class SchemaDrift(SourceError):
    """The table is not the one that was compared before, or it changed while it was scanned. ``columns`` have."""

    def __init__(self, message: str, *, next_step: str = "", columns: tuple[str, ...] = ()) -> None:
        super().__init__(message, next_step=next_step)
        self.columns = columns


class SweepLetters:
    """The dead letters of one sweep of one dataset. ``store`` None: they are counted only (an ad hoc comparison)."""

    def __init__(self, store: LetterStore | None, profile: Profile, keys: DatasetKeys, sweep_id: str) -> None:
        self._store = store
        self._profile = profile
        self._keys = keys
        self._sweep_id = sweep_id
        self._began_us = 0 if store is None else store.now_us()
        self._complete = True

    @property
    def since_us(self) -> int:
        """When the scan was begun; letters that are not seen after that have ended."""
        return self._began_us

    def goes_on(self, since_us: int) -> None:
        """The scan was begun by an earlier process, at that time."""
        self._began_us = min(self._began_us, since_us)

    @property
    def kept(self) -> bool:
        """Whether letters are kept at all."""
        return self._store is not None

    def take(self, run_path: Path) -> None:
        """Keep what the task of a run has left beside it. Raises SourceError."""
        if self._store is None:
            return
        path = letters_path(run_path)
        letters, not_kept = take_letters(path)
        if letters or not_kept:
            self._complete = self._complete and not not_kept
            self._store.take(self._profile.dataset, self._sweep_id, letters, not_kept)
            path.unlink(missing_ok=True)

    def scanned(self) -> None:
        """The whole table was read: letters of rows that are readable now, or gone, have ended. Raises SourceError."""
        if self._store is not None:
            dataset = self._profile.dataset
            ended = self._store.settle(dataset, self._sweep_id, self._began_us, complete=self._complete)
            if ended:
                _log.info("dead letters ended", dataset=dataset, sweep=self._sweep_id, letters=len(ended))

    def rescanned(self, dead: Iterable[bytes], keyless: int) -> None:
        """A part of the table was read; ``dead`` are the locators of all dead rows by now, ``keyless`` those without.

        The letters of other rows have ended. Raises SourceError.
        """
        if self._store is None:
            return
        still = {identity_of(self._keys, key_identity(locator)) for locator in dead}
        if not still and not keyless:
            self.scanned()
            return
        known = self._store.keyed(self._profile.dataset)
        self._store.clear(letter for identity, letter in known.items() if identity not in still)

    # --- rows of an index that is kept ------------------------------------------------------------------------------

    def listed(self) -> Listed | None:
        """The letters of rows that there are by now; None where none are kept. Raises SourceError."""
        return None if self._store is None else self._store.listed(self._profile.dataset)

    def by_key(self) -> RefreshLetters | None:
        """Takes the letters of rows that are read again by key; None where none are kept."""
        return None if self._store is None else RefreshLetters(self._store, self._profile.dataset, self._keys)

    @contextmanager
    def unreadable(self) -> Iterator[None]:
        """An error of the source in the block, which a retry does not mend, is a letter. The error goes on."""
        try:
            yield
        except SchemaDrift:
            raise
        except SourceError as error:
            if self._store is not None and not error.retryable and error.shard:
                identity = b"rows" + error.shard.encode()
                payload = {"shard": error.shard, "error": str(error)}
                self._keep(found(self._keys, LetterKind.ROWS, identity, UNREADABLE, payload))
            raise

    # --- schema -----------------------------------------------------------------------------------------------------

    def described(self, connector: Connector, binding: Binding) -> TableSchema:
        """The table, which is still what was compared last, and fits. Raises SchemaDrift or ConfigError."""
        known = self._known(binding)
        try:
            schema = connector.describe(binding.table)
        except ConfigError as error:
            if known is not None:
                self._drifted(known, None, [error.message], during="")
            raise
        now = described(schema, self._profile.ignored)
        if known is not None and (changes := differences(known, now)):
            raise self._drifted(known, now, changes, during="since it was compared last")
        check_binding(self._profile, binding, schema)
        if self._store is not None:
            if known is None:
                self._store.remember_schema(self._profile.dataset, self._fixed(binding), now)
            self._store.clear_kind(self._profile.dataset, LetterKind.SCHEMA)
        return schema

    @contextmanager
    def steady(self, connector: Connector, binding: Binding, schema: TableSchema) -> Iterator[Callable[[], None]]:
        """The block reads the table, and at its end calls what it was given, which raises SchemaDrift if it changed.

        Where the block fails because the table changed, it raises SchemaDrift instead.
        """

        def demand_same() -> None:
            if (drift := self._changed(connector, binding, schema)) is not None:
                raise drift

        try:
            yield demand_same
        except SchemaDrift:
            raise
        except (SourceError, ConfigError) as error:
            if (drift := self._changed(connector, binding, schema)) is not None:
                raise drift from error
            raise

    def accept(self, connector: Connector, binding: Binding) -> None:
        """The table as it is now is the one to compare from now on. Raises ConfigError where it does not fit."""
        schema = connector.describe(binding.table)
        check_binding(self._profile, binding, schema)
        if self._store is not None:
            now = described(schema, self._profile.ignored)
            self._store.remember_schema(self._profile.dataset, self._fixed(binding), now)
            self._store.clear_kind(self._profile.dataset, LetterKind.SCHEMA)

    def _changed(self, connector: Connector, binding: Binding, schema: TableSchema) -> SchemaDrift | None:
        was = described(schema, self._profile.ignored)
        try:
            now = described(connector.describe(binding.table), self._profile.ignored)
        except ConfigError as error:
            return self._drifted(was, None, [error.message], during="while it was read")
        except SourceError:  # the source is away: what went wrong before says it
            return None
        changes = differences(was, now)
        return self._drifted(was, now, changes, during="while it was read") if changes else None

    def _drifted(
        self, was: Mapping[str, Any], now: Mapping[str, Any] | None, changes: list[str], *, during: str
    ) -> SchemaDrift:
        """Keep the letter; returns the error that stops this dataset's comparison."""
        dataset = self._profile.dataset
        reason = f"the table has changed {during}: " + "; ".join(changes) if during else changes[0]
        columns = tuple(changed_columns(was, now)) if now is not None else ()
        letter = found(
            self._keys, LetterKind.SCHEMA, b"schema", reason, {"was": was, "is": now}, columns=columns, keyed=False
        )
        step = "make it what it was, or correct the dataset's declaration"
        if self._store is not None and self._keep(letter):
            step += f"; paritree dlq replay goes on with the table as it is, if it fits (dataset {dataset})"
        return SchemaDrift(f"dataset {dataset}: {reason}", next_step=step, columns=columns)

    def _keep(self, letter: Found) -> bool:
        """Keep one letter. An error that is told already must not be hidden by a full disk."""
        if self._store is None:
            return False
        try:
            return self._store.take(self._profile.dataset, self._sweep_id, [letter]) == 0
        except ParitreeError as error:
            _log.error("a dead letter was not kept", dataset=self._profile.dataset, reason=error.message)
            return False

    def _known(self, binding: Binding) -> Any:
        known = None if self._store is None else self._store.schema(self._profile.dataset)
        if known is None or known[0] != self._fixed(binding):
            return None
        return _without(known[1], self._profile.ignored)

    def _fixed(self, binding: Binding) -> bytes:
        """What an operator declared: another declaration is a new beginning."""
        return self._profile.profile_id + binding.binding_id


def _without(described_table: Mapping[str, Any], ignored: tuple[str, ...]) -> dict[str, Any]:
    """A remembered table without columns that are ignored by now."""
    columns = {name: column for name, column in described_table["columns"].items() if name not in ignored}
    return {"columns": columns, "key": [name for name in described_table["key"] if name not in ignored]}
