"""Which regions of up to eight are compared with each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coordinator.exchanges import not_alike
from paritree.core.messages import Header

OURS = b"p" * 16
HEADER = Header("orders", OURS, 1, b"k" * 8, "s-1", "lsn 1")


def headers(*changes: dict[str, Any]) -> dict[str, Header]:
    """Regions a, b, … with such headers."""
    return {chr(97 + i): replace(HEADER, **change) for i, change in enumerate(changes)}


OTHER_KEY: dict[str, Any] = {"key_id": b"x" * 8}
OTHER_PROFILE: dict[str, Any] = {"profile_id": b"q" * 16}


@pytest.mark.parametrize(
    ("changes", "excluded"),
    [
        ([{}, {}], {}),
        ([{}], {}),
        ([], {}),
        ([{}, {}, OTHER_KEY], {"c": "dataset key"}),
        ([OTHER_KEY, {}, {}, {}, OTHER_KEY], {"a": "dataset key", "e": "dataset key"}),
        ([OTHER_KEY, OTHER_KEY, {}], {"c": "dataset key"}),
        ([{}, {"canonical_version": 2}, {}, {"dataset": "o"}], {"b": "canonical version", "d": "dataset"}),
        ([{}, {**OTHER_KEY, **OTHER_PROFILE}, {}], {"b": "profile and dataset key"}),
        ([{}, OTHER_PROFILE, {}, OTHER_PROFILE, OTHER_PROFILE], {"b": "profile", "d": "profile", "e": "profile"}),
        ([{}, {"bucket": b"b" * 8}, {}], {"b": "bucket"}),
        ([{"position": "one"}, {"position": "two"}, {"sweep_id": "s-2"}], {}),
    ],
)
def test_those_with_the_header_that_counts_are_compared(changes, excluded):
    reasons = not_alike(headers(*changes), OURS)
    assert reasons == {name: f"its {what} differs from the other regions'" for name, what in excluded.items()}


@pytest.mark.parametrize("regions", [2, 3, 5, 8])
def test_where_all_differ_none_is_more_right_than_another(regions):
    found = not_alike(headers(*({"key_id": bytes([i] * 8)} for i in range(regions))), OURS)
    assert len(found) == regions
    assert all(reason.startswith("no two regions have the same") for reason in found.values())
