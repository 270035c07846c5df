"""The datasets of an agent whose index outlives sweeps, mostly because their tables tell what has changed::

    [refresh.orders]
    changes = "slot"

A logical replication slot (PostgreSQL) makes the server keep its log until this agent has read it, also while the
agent is away: bound that with the server's ``max_slot_wal_keep_size``, and drop the slot of a dataset that is no longer
followed (``paritree agent unfollow``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from paritree.config.mistakes import Fault
from paritree.config.settings import Part
from paritree.config.topic import TopicConfig


class RefreshConfig(Part):
    """How one dataset's index is kept up to date."""

    changes: Literal["slot", "topic", "rescan", "none"]
    """Where changes come from: ``slot``, a logical replication slot of the table's PostgreSQL database; ``topic``, a
    stream that somebody else feeds with changed keys.

    ``rescan``: nobody tells changes, and what may have changed is scanned again. Of files (Parquet, CSV, SQLite,
    DuckDB) those that were written, when a sweep begins. Of Cassandra the token ranges older than ``max_age_s``, when a
    sweep begins, and the oldest ones in the background, as soon as they are half as old.

    ``none``: nobody tells changes, and the index is scanned anew when a sweep finds it too old.
    """
    interval_s: float = Field(default=5.0, ge=0.1, le=3_600, allow_inf_nan=False)
    """Seconds between two refreshes in the background; default 5. A sweep refreshes when it begins, too."""
    max_age_s: float = Field(default=3_600.0, ge=0, allow_inf_nan=False)
    """Age in seconds up to which an index is used by sweeps that do not say; default 3600. Not with ``slot``, nor where
    ``rescan`` sees whether files were written.
    """
    rescan_rows_s: float = Field(default=20_000.0, ge=100, allow_inf_nan=False)
    """Rows a second that are scanned again in the background at most, at least 100; default 20000, a few percent of a
    core."""
    check_interval_s: float = Field(default=60.0, ge=0, allow_inf_nan=False)
    """Seconds between two pieces of the self-check, which compares the index with its files and its table; 0: none."""

    topic: TopicConfig | None = None
    """The stream, with ``changes = "topic"``."""

    @model_validator(mode="after")
    def _with_its_topic(self) -> Self:
        if (self.topic is not None) != (self.changes == "topic"):
            raise Fault('changes = "topic" and a table topic belong together', "add the other one, or remove this one")
        return self


RefreshesConfig = Mapping[str, RefreshConfig]
"""By dataset."""
