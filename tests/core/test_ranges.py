"""When a loss is told by counts."""

from __future__ import annotations

import pytest

from paritree.core import limits
from paritree.core.ranges import bulk_loss

MANY = 10 * limits.RANGE_ROWS_MIN


@pytest.mark.parametrize(
    ("rows", "gone_in"),
    [
        ({}, None),
        ({"a": MANY}, None),
        ({"a": 0, "b": 0}, None),
        ({"a": MANY, "b": MANY // 2}, None),
        ({"a": MANY, "b": MANY // 2 - 1}, ("b",)),
        ({"a": 0, "b": MANY, "c": MANY - 5}, ("a",)),
        ({"a": 0, "b": MANY, "c": 1}, ("a", "c")),
        ({"a": limits.RANGE_ROWS_MIN - 1, "b": 0}, None),
        ({"a": limits.RANGE_ROWS_MIN, "b": 0}, ("b",)),
    ],
)
def test_most_rows_gone_and_too_many_to_list(rows, gone_in):
    loss = bulk_loss(rows)
    assert (loss and loss.gone_in) == gone_in
    if loss:
        assert loss.report() == {"kind": "range", "prefix": "", "bits": 0, "rows": rows}
        assert all(name in loss.reason for name in rows)
