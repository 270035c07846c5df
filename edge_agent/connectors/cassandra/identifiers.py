"""CQL names: unquoted ones are folded to lower case, as the server does; quoted ones are kept."""

from __future__ import annotations

import re

from paritree.core.errors import ConfigError

_NAME = r'"(?:[^"]|"")+"|[A-Za-z][A-Za-z0-9_]*'
_ONE = re.compile(_NAME)
_TABLE = re.compile(rf"(?:({_NAME})\.)?({_NAME})")
_BARE = re.compile(r"[a-z][a-z0-9_]*")


def identifier(text: str, kind: str) -> str:
    """The name that a CQL identifier means. Raises ConfigError."""
    if _ONE.fullmatch(text) is None:
        raise ConfigError(f"'{text}' is not a {kind} name", next_step='quote it: "Name"')
    return text[1:-1].replace('""', '"') if text.startswith('"') else text.lower()


def table_name(text: str, keyspace: str) -> tuple[str, str]:
    """(keyspace, table) of ``table`` or ``keyspace.table``. Raises ConfigError."""
    match = _TABLE.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"'{text}' is not a Cassandra table name", next_step='write table or keyspace.table; "Quoted"'
        )
    if match[1] is None and not keyspace:
        raise ConfigError(
            f"table '{text}' without a keyspace", next_step="write cassandra://host/keyspace or keyspace.table"
        )
    return (identifier(match[1], "keyspace") if match[1] else keyspace), identifier(match[2], "table")


def quote(name: str) -> str:
    """The name as it stands in CQL that we send: always quoted."""
    return '"' + name.replace('"', '""') + '"'


def written(name: str) -> str:
    """The name as people write it: quoted only where it must be."""
    return name if _BARE.fullmatch(name) else quote(name)
