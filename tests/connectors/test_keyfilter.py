"""The filter behind look-ups against its definition: the rows whose key has the same canonical bytes."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.connectors.keyfilter import KeyFilter, token
from paritree.core.errors import DeadLetter
from paritree.core.profile import Binding, BoundColumn
from paritree.core.textual import parse_text
from paritree.core.types import LogicalType, parse_type

NUMBERS = st.from_regex(r"[+-]?(0?0?[0-2]?|0)(\.[05]?0?0?)?(e[+-]?[01])?", fullmatch=True)
DAYS = st.sampled_from(
    ["1969-12-30", "1969-12-31", "1970-01-01", "+1970-01-01", "1970-01-02", "infinity", "-0001-12-31"]
)
CLOCKS = st.sampled_from(
    ["00:00", "00:00:00", "00:01:00.0", "24:00", "23:59", "23:59:59.9999999", "12:00,", "00:00:00.000"]
)
ZONES = st.sampled_from(["Z", "+00", " +0000", "-23:59", "+23:59", "+12", "-12:00"])
MARKS = st.sampled_from(["T", " ", "t"])
TEXTS: dict[str, st.SearchStrategy[str]] = {
    "int": NUMBERS,
    "decimal": NUMBERS,
    "date": DAYS,
    "time": CLOCKS,
    "datetime": st.builds(lambda *parts: "".join(parts), DAYS, MARKS, CLOCKS) | DAYS,
    "timestamp": st.builds(lambda *parts: "".join(parts), DAYS, MARKS, CLOCKS, ZONES) | DAYS,
    "uuid": st.from_regex("0{8}(-?)0{4}\\1[0aA]{4}\\1[0]{4}\\1[0]{12}", fullmatch=True),
    "float": NUMBERS | st.sampled_from(["nan", "NaN", "inf", "-0.0"]),
    "text": st.sampled_from(["", "a", "A", "a ", "é"]),
    "inet": st.sampled_from(["::1", "0::1", "127.0.0.1", "127.0.0.1/32", "x"]),
}


def meant(text: str, kind: LogicalType) -> bytes | None:
    try:
        return token(parse_text(text, kind), kind)
    except DeadLetter:
        return None


@pytest.mark.parametrize("name", TEXTS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_no_spelling_is_passed_over(name: str, data: st.DataObject) -> None:
    kind = parse_type(name)
    texts = data.draw(st.lists(TEXTS[name] | st.none(), min_size=1, max_size=12))
    asked = [text for text in data.draw(st.lists(TEXTS[name], min_size=1, max_size=3)) if meant(text, kind) is not None]
    keys: list[tuple[Any, ...]] = [(parse_text(text, kind),) for text in asked]
    bound = Binding("d", "t", ("k",), (BoundColumn("k", kind, source="k"),))
    batch = pa.record_batch({"k": pa.array(texts, pa.utf8())})
    wanted = {meant(text, kind) for text in asked}
    expected = [text for text in texts if text is not None and meant(text, kind) in wanted]
    assert KeyFilter(bound, keys).filter(batch).column("k").to_pylist() == expected
