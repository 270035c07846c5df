"""An index that follows its source keeps the dead letters of changed rows, and ends those of rows that fit again."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from agent.warm_case import Warm, scanned
from connectors.pg_case import PgCase
from servers.postgresql import PostgresqlServer

from edge_agent.letters.store import LetterStore
from edge_agent.warm import Following

pytestmark = pytest.mark.servers
DEEP = "repeat('[', 600) || '1' || repeat(']', 600)"


class Letters(Warm):
    """A warm index whose dead letters are kept."""

    def __init__(self, pg: PgCase, folder: Path) -> None:
        self.store = LetterStore(folder / "letters.db", "eu")
        super().__init__(pg, folder, pg.bind("docs"))
        self.index.close()
        self.following = Following("eu/eu-1", letters=self.store)
        self.index = self.opened()


def test_letters_come_and_go_with_changes(postgresql: PostgresqlServer, tmp_path: Path) -> None:
    postgresql.create_database("refreshed")
    pg = PgCase(postgresql, "refreshed")
    pg.run(
        "CREATE TABLE docs (id bigint PRIMARY KEY, j json)",
        "INSERT INTO docs SELECT i, '1' FROM generate_series(1, 9) i",
    )
    with ExitStack() as closing:
        closing.callback(pg.close)
        warm = Letters(pg, tmp_path)
        closing.callback(warm.close)
        assert scanned(warm.check())
        pg.run(f"UPDATE docs SET j = ({DEEP})::json WHERE id IN (3, 4)")
        assert warm.built().dead.total == 2, "dead rows have digests of chance: no scan gives the same"
        first, second = warm.store.kept("orders")
        assert {first.letter.columns, second.letter.columns} == {("j",)}
        assert first.letter.sweep_id == "refresh"
        pg.run("UPDATE docs SET j = '2' WHERE id = 3", "UPDATE docs SET j = '2' WHERE id = 9")
        built = warm.built()
        assert not scanned(built)
        assert built.dead.total == len(warm.store.kept("orders")) == 1
        pg.run("DELETE FROM docs WHERE id = 4")
        assert warm.check().dead.total == len(warm.store.kept("orders")) == 0
