"""Messages of a change topic, read without a server: keys, forms of values, markers, what is refused."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from topic.topic_case import change, document

from edge_agent.topic.changes import consumer_name, matches
from edge_agent.topic.envelope import Malformed, Said, read_debezium, read_keys
from edge_agent.topic.keys import KeyField, KeyReader
from edge_agent.topic.stream import Extent
from paritree.core.carrier import plain_values
from paritree.core.errors import ConfigError
from paritree.core.profile import Binding, BoundColumn
from paritree.core.types import parse_type


def reader(kind: str, form: str = "", **more: Any) -> KeyReader:
    column = BoundColumn("id", parse_type(kind), **(more or {"source": "id"}))
    binding = Binding("orders", "orders", ("id",), (column,))
    return KeyReader.of(binding, {"id": KeyField("id", form)} if form else {}, native=True)


def key(kind: str, value: Any, form: str = "", types: Any = None) -> Any:
    """The plain value that a lookup gets."""
    made = reader(kind, form)
    batch = made.batch(made.keys(Said(({"id": value},), types=types or {})))
    return plain_values(batch.column("id"), parse_type(kind))[0]


DECIMAL = {"id": ("org.apache.kafka.connect.data.Decimal", 2)}
MICROS = {"id": ("io.debezium.time.MicroTimestamp", None)}
DAYS = {"id": ("io.debezium.time.Date", None)}


@pytest.mark.parametrize(
    ("kind", "value", "form", "types", "plain"),
    [
        ("int", 7, "", None, 7),
        ("int", "-7", "", None, -7),
        ("int", 2**70, "", None, str(2**70)),
        ("text", "é", "", None, "é"),
        ("bytes", "AAEC", "", None, b"\0\1\2"),
        ("bytes", "000102", "hex", None, b"\0\1\2"),
        ("uuid", "f47ac10b-58cc-11e4-8ed6-0800200c9a66", "", None, bytes.fromhex("f47ac10b58cc11e48ed60800200c9a66")),
        ("bool", True, "", None, True),
        ("float", 1, "", None, 1.0),
        ("decimal", "1.10", "text", None, "1.10"),
        ("decimal", base64.b64encode((-258).to_bytes(2, "big", signed=True)).decode(), "", DECIMAL, "-2.58"),
        ("timestamp", "2026-01-31T12:00:00+01:00", "", None, 1_769_857_200_000_000),
        ("timestamp", 1_769_857_200, "s", None, 1_769_857_200_000_000),
        ("timestamp", 1_769_857_200_000_001, "", MICROS, 1_769_857_200_000_001),
        ("datetime", 1_769_857_200_000, "ms", None, 1_769_857_200_000_000),
        ("date", 20_000, "days", None, 20_000),
        ("date", 20_000, "", DAYS, 20_000),
        ("date", "1970-01-02", "", None, 1),
        ("time", "00:00:01", "", None, 1_000_000),
    ],
)
def test_a_value_is_read_in_one_way(kind: str, value: Any, form: str, types: Any, plain: Any) -> None:
    found = key(kind, value, form, types)
    assert str(found) == plain if kind in ("decimal", "int") and isinstance(plain, str) else found == plain


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        ("int", True, "not an int"),
        ("int", 1.5, "not an int"),
        ("int", None, "is null"),
        ("decimal", "1234", "base64"),
        ("timestamp", 1_769_857_200, "without a unit"),
        ("timestamp", "2026-01-31T12:00:00", "without a zone"),
        ("date", 20_000, "without a unit"),
        ("text", 5, "not a text"),
        ("text", "\ud800", "half of a character"),
        ("uuid", "f47", "not a uuid"),
        ("bytes", "?", "base64"),
        ("bool", 1, "not a bool"),
    ],
)
def test_a_value_that_may_mean_two_things_is_refused(kind: str, value: Any, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        key(kind, value)


def test_a_schema_around_an_event_says_what_numbers_mean() -> None:
    fields = [{"field": "id", "type": "int64", "name": "io.debezium.time.Timestamp"}]
    schema = {"type": "struct", "fields": [{"field": "after", "fields": fields}, {"field": "op"}]}
    said = read_debezium(document({"schema": schema, "payload": change("c", None, {"id": 5})}))
    assert reader("timestamp").keys(said) == [(5_000,)]


def test_both_images_of_a_change_are_keys() -> None:
    said = read_debezium(document(change("u", {"id": 1, "x": 1}, {"id": 2})))
    assert reader("int").keys(said) == [("1",), ("2",)]
    cells = {"id": {"value": 3, "deletion_ts": None, "set": True}, "_range_start": None, "_range_end": None}
    assert reader("int").keys(read_debezium(document(change("d", None, cells)))) == [("3",)]


def test_a_tombstone_has_its_key_in_a_header_or_follows_a_delete() -> None:
    assert reader("int").keys(read_debezium(b"", document({"id": 9}))) == [("9",)]
    assert read_debezium(b"null", after_delete=True) == Said()
    with pytest.raises(Malformed, match="does not follow a delete"):
        read_debezium(b"")


def test_markers() -> None:
    moment = base64.b64encode(b"2026-01-31 12:00:00.5+01").decode()
    logical = {"op": "m", "message": {"prefix": "paritree", "content": moment}}
    assert read_debezium(document(logical)).marker == 1_769_857_200.5
    assert read_keys(document({"paritree_marker": 1_769_857_200})).marker == 1_769_857_200.0
    others = {"op": "m", "message": {"prefix": "somebody", "content": "?"}}
    assert read_debezium(document(others)) == Said()
    for wrong in ("yesterday", "2026-01-31T12:00:00", "infinity", True, -1, [], 1e300):
        with pytest.raises(Malformed):
            read_keys(document({"paritree_marker": wrong}))


def test_what_is_no_change() -> None:
    assert read_debezium(document({"ts_ms": 1})) == Said()
    assert read_debezium(document({"status": "BEGIN", "id": "571", "event_count": None})) == Said()
    assert read_debezium(document(change("t"))).rescan
    for wrong in ([], 1, {"ts_ms": 1, "x": 2}, {}, {"schema": 1, "payload": {}}, change("u", 1, 2)):
        with pytest.raises(Malformed):
            read_debezium(document(wrong))


def test_keys_in_the_file_are_checked_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match="type json"):
        reader("json")
    with pytest.raises(ConfigError, match="no form 'ms' of a text"):
        reader("text", "ms")
    with pytest.raises(ConfigError, match="which the table computes"):
        reader("text", expression="upper(x)")
    binding = Binding("orders", "orders", (), ())
    with pytest.raises(ConfigError, match="whole row"):
        KeyReader.of(binding, {}, native=True)
    one = Binding("orders", "orders", ("id",), (BoundColumn("id", parse_type("int"), source="id"),))
    with pytest.raises(ConfigError, match="no key column"):
        KeyReader.of(one, {"x": KeyField("x")}, native=True)
    constant = reader("text", constant="eu")
    assert constant.keys(Said(({},))) == [("eu",)]


def test_what_is_missing_in_a_stream_is_found() -> None:
    whole = Extent("now", 5, 20, frozenset(), {}, 0)
    assert [whole.lost(*span) for span in ((4, 20), (20, 20), (3, 20), (3, 3), (0, 0))] == [0, 0, 4, 0, 0]
    assert Extent("now", 1, 20, frozenset({7, 9}), {}, 0).lost(7, 12) == 9
    assert Extent("now", 21, 20, frozenset(), {}, 0).lost(20, 20) == 0


def test_subjects_and_names() -> None:
    assert matches("a.*.c", "a.b.c")
    assert matches("a.>", "a.b.c")
    assert matches(">", "a")
    for pattern, subject in (("a.>", "a"), ("a.*", "a.b.c"), ("a.b", "a.c"), ("a", "a.b")):
        assert not matches(pattern, subject)
    assert consumer_name("orders", "eu/a.b") != consumer_name("orders", "eu/a_b")
