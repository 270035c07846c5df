"""Lists of hosts are taken apart whatever urlsplit thinks of their brackets; all else is as urlsplit has it."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from paritree.core.urls import split_url


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann@db:5432/shop?sslmode=require",
        "postgresql://ann:pw@[::1]:5432/shop#orders",
        "postgresql://a:1,b:2/shop",
        "postgresql:///shop",
        "sqlite:////srv/shop.db?immutable=1",
        "sqlite://",
        "db:5432/shop",
        "/srv/shop.db",
        "cassandra://db?dc=eu/1",
    ],
)
def test_as_urlsplit_has_it(url: str) -> None:
    assert split_url(url) == urlsplit(url)


def test_a_list_of_hosts() -> None:
    parts = split_url("cassandra://ann%40x@db1:9043,[::1]:9044,[fe80::1]/shop?dc=eu")
    assert parts.netloc == "ann%40x@db1:9043,[::1]:9044,[fe80::1]"
    assert (parts.scheme, parts.path, parts.query, parts.password) == ("cassandra", "/shop", "dc=eu", None)
    assert parts.geturl() == "cassandra://ann%40x@db1:9043,[::1]:9044,[fe80::1]/shop?dc=eu"
    assert split_url("cassandra://ann:pw@[::1],[::2]/shop").password == "pw"


@pytest.mark.parametrize(
    "url",
    [
        "cassandra://[::1/shop",
        "cassandra://a,::1]:2/shop",
        "cassandra://[::1],[::2/shop",
        "cassandra://a\uff0fb/x",
        "postgresql://u:p/w@db/shop",
    ],
)
def test_a_wrong_host_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        split_url(url)
