"""SPIFFE names: the two forms that exist, and nothing near them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paritree.core.spiffe import AgentName, OperatorName, parse_name

segments = st.text("abcXYZ019._-", min_size=1, max_size=64).filter(lambda text: text not in (".", ".."))
domains = st.text("abcxyz019._-", min_size=1, max_size=100)


@given(st.one_of(st.builds(AgentName, domains, segments, segments), st.builds(OperatorName, domains, segments)))
def test_names_and_uris_are_the_same_thing(name: AgentName | OperatorName) -> None:
    assert parse_name(name.uri) == name


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://",
        "spiffe://td",
        "spiffe://td/",
        "spiffe:///region/eu/agent/a",
        "spiffe://td/region/eu",
        "spiffe://td/region/eu/agent",
        "spiffe://td/region/eu/agent/",
        "spiffe://td/region//agent/a",
        "spiffe://td/region/eu/agent/a/",
        "spiffe://td/region/eu/agent/a/b",
        "spiffe://td/region/eu/agent/a?x",
        "spiffe://td/region/eu/agent/a#x",
        "spiffe://td/region/eu/agent/a\n",
        "spiffe://td/region/../agent/a",
        "spiffe://td/region/%65u/agent/a",
        "spiffe://TD/region/eu/agent/a",
        "spiffe://td:1/region/eu/agent/a",
        "spiffe://u@td/region/eu/agent/a",
        "SPIFFE://td/region/eu/agent/a",
        "https://td/region/eu/agent/a",
        "spiffe://td/Region/eu/agent/a",
        "spiffe://td/operator",
        "spiffe://td/operator/",
        "spiffe://td/operator/a/b",
        "spiffe://td/agent/a",
    ],
)
def test_anything_else_is_nobody(uri: str) -> None:
    assert parse_name(uri) is None
