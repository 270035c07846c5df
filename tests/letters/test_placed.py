"""Dead rows of batches that are digested where the source has put them: their values are read for the letter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from drifting import Cassandra, Drifting, Postgresql


@pytest.fixture(params=[Postgresql, Cassandra])
def drifting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Drifting]:
    made = request.param(tmp_path, request.getfixturevalue(request.param.server))
    yield made
    made.close()


def spoil(drifting: Drifting) -> str:
    """One row that does not fit among three; what its letter has to say of its column."""
    if isinstance(drifting, Cassandra):
        drifting.session.execute(
            f"INSERT INTO {drifting.keyspace}.orders (id, name, amount) VALUES (2, %s, 7)", ("secret\0",)
        )
        return "secret\0"
    assert isinstance(drifting, Postgresql)
    drifting.run("ALTER TABLE orders DROP CONSTRAINT orders_pkey, ALTER id DROP NOT NULL")
    drifting.run("UPDATE orders SET id = NULL, name = 'secret' WHERE id = 2")
    return "secret"


def test_their_values_are_in_the_letter(drifting: Drifting) -> None:
    secret = spoil(drifting)
    drifting.copy = replace(drifting.copy, digester="compiled")
    assert drifting.sweep().dead.total == 1
    (letter,) = drifting.letters
    (shown,) = drifting.desk.open([letter.id], operator="", purpose="")
    assert shown.content["payload"]["values"]["name"] == secret
    assert letter.columns == (("name",) if letter.keyed else ("id",))
