"""What an operator can write: URLs, options, names. And what the driver's errors become."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cassandra import (
    AuthenticationFailed,
    ConsistencyLevel,
    InvalidRequest,
    OperationTimedOut,
    ReadFailure,
    ReadTimeout,
    Unauthorized,
    Unavailable,
)
from cassandra.cluster import NoHostAvailable

from edge_agent.connectors.cassandra import CassandraConnector, errors, identifiers, options
from edge_agent.connectors.cassandra.decode import Rows
from edge_agent.connectors.cassandra.pages import Page, PageSize
from edge_agent.connectors.contract import Source
from paritree.core.errors import ConfigError, ParitreeError, SourceError


def read(url: str, **given: str) -> options.Settings:
    return options.read(Source(url, given, {"password": "s3cret"}))


def test_a_full_url() -> None:
    settings = read("cassandra://ann%40x@db1:9043,db2,[::1]:9044,[fe80::1]/%22Shop%22?dc=eu&page_rows=7", timeout_s="5")
    assert settings.hosts == (("db1", 9043), ("db2", 9042), ("::1", 9044), ("fe80::1", 9042))
    assert (settings.keyspace, settings.user, settings.dc) == ("Shop", "ann@x", "eu")
    assert (settings.page_rows, settings.timeout_s) == (7, 5.0)
    assert settings.where == "db1:9043,db2:9042,[::1]:9044,[fe80::1]:9042"


def test_defaults() -> None:
    settings = read("cassandra://db/Shop")
    assert (settings.keyspace, settings.user, settings.consistency, settings.tls) == ("shop", "", "LOCAL_QUORUM", False)
    assert settings.level == ConsistencyLevel.LOCAL_QUORUM


def test_options_win_over_the_query() -> None:
    assert read("cassandra://db/shop?consistency=one", consistency="all").consistency == "ALL"


@pytest.mark.parametrize(
    ("url", "given", "message"),
    [
        ("cassandra://db/shop?consistancy=ONE", {}, "unknown Cassandra option 'consistancy'"),
        ("cassandra://db/shop", {"consistency": "EACH_QUORUM"}, "consistency 'EACH_QUORUM' cannot be read at"),
        ("cassandra://db/shop", {"consistency": "SERIAL"}, "consistency 'SERIAL' cannot be read at"),
        ("cassandra://db/shop", {"page_rows": "0"}, "page_rows='0'"),
        ("cassandra://db/shop", {"page_rows": "1e3"}, "page_rows='1e3'"),
        ("cassandra://db/shop", {"timeout_s": "never"}, "timeout_s='never'"),
        ("cassandra://db:x/shop", {}, "'db:x' is not a Cassandra host"),
        ("cassandra://db,[::1/shop", {}, "the Cassandra URL cannot be read"),
        ("cassandra:///shop", {}, "'' is not a Cassandra host"),
        ("cassandra://db,/shop", {}, "'' is not a Cassandra host"),
        ("cassandra://db/1shop", {}, "'1shop' is not a keyspace name"),
        ("cassandra://db/shop", {"ssl": "maybe"}, "ssl='maybe'"),
        ("cassandra://db/shop", {"verify_hostname": "0"}, "verify_hostname='0'"),
        ("cassandra://db/shop", {"ssl": "false", "cafile": "ca.pem"}, "cafile with ssl=false"),
    ],
)
def test_what_cannot_be_used_is_named(url: str, given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(url, **given)
    assert message in str(caught.value)
    assert caught.value.next_step


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        read("cassandra://ann:hunter2@db/shop")
    assert "hunter2" not in str(caught.value)


def test_a_user_without_a_password_is_refused() -> None:
    with pytest.raises(ConfigError, match="user 'ann' but there is no password"):
        options.read(Source("cassandra://ann@db/shop"))


def test_tls_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    with pytest.raises(ConfigError, match=r"ca\.pem cannot be used"):
        options.tls_context(read("cassandra://db/shop", cafile=str(missing)))
    missing.write_text("not a certificate")
    with pytest.raises(ConfigError, match=r"ca\.pem cannot be used"):
        options.tls_context(read("cassandra://db/shop", cafile=str(missing)))
    assert options.tls_context(read("cassandra://db/shop")) is None
    context = options.tls_context(read("cassandra://db/shop?ssl=true"))
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_nobody_listens() -> None:
    with pytest.raises(SourceError, match=r"cannot be reached while connecting to 127\.0\.0\.1:9") as caught:
        CassandraConnector.connect(Source("cassandra://127.0.0.1:9/shop"))
    assert caught.value.retryable
    assert caught.value.next_step


def test_a_host_without_an_address() -> None:
    with pytest.raises(SourceError, match="no host of the URL has an address"):
        CassandraConnector.connect(Source("cassandra://nowhere.invalid/shop"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Orders", ("shop", "orders")),
        ('"Orders"', ("shop", "Orders")),
        ("Other.Orders", ("other", "orders")),
        ('"O""x.y"."T.z"', ('O"x.y', "T.z")),
    ],
)
def test_table_names(text: str, names: tuple[str, str]) -> None:
    assert identifiers.table_name(text, "shop") == names


@pytest.mark.parametrize("text", ["", "a.b.c", "orders; DROP", '"open', "a b", "é"])
def test_no_table_names(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a Cassandra table name"):
        identifiers.table_name(text, "shop")


def test_a_table_needs_a_keyspace() -> None:
    with pytest.raises(ConfigError, match="without a keyspace"):
        identifiers.table_name("orders", "")


def test_names_as_written() -> None:
    assert [identifiers.written(n) for n in ("orders", "Orders", 'o"x')] == ["orders", '"Orders"', '"o""x"']


ROLE = 'Error from server: code=2100 [Unauthorized] message="User ann has no SELECT permission on <table shop.orders>"'


@pytest.mark.parametrize(
    ("error", "kind", "retryable", "said"),
    [
        (Unavailable("x", 6, required_replicas=2, alive_replicas=1), SourceError, True, "2 needed, 1 alive"),
        (
            ReadTimeout("x", consistency=6, required_responses=2, received_responses=1),
            SourceError,
            True,
            "1 of 2 answered",
        ),
        (ReadFailure("x", failures=1, error_code_map={"127.0.0.1": 1}), SourceError, False, "too many tombstones"),
        (ReadFailure("x", failures=1, error_code_map={"127.0.0.1": 0}), SourceError, True, "1 replicas failed"),
        (OperationTimedOut(), SourceError, True, "did not answer in time"),
        (Unauthorized(ROLE), ConfigError, False, "GRANT SELECT ON TABLE shop.orders TO ann;"),
        (InvalidRequest('code=2200 message="unconfigured table"'), SourceError, False, "unconfigured table"),
        (NoHostAvailable("x", {"h": AuthenticationFailed("Bad credentials")}), SourceError, False, "refused the login"),
        (NoHostAvailable("x", {"h": OperationTimedOut()}), SourceError, True, "cannot be reached"),
        (NoHostAvailable("x", {"h": ssl.SSLError("bad certificate")}), SourceError, False, "no TLS connection"),
    ],
)
def test_driver_errors(error: Exception, kind: type[ParitreeError], retryable: bool, said: str) -> None:
    translated = errors.translate(error, "reading shop.orders")
    assert type(translated) is kind
    assert translated.retryable is retryable
    assert said in str(translated)


def test_pages_grow_while_they_are_small_and_shrink_when_they_are_slow() -> None:
    size = PageSize(5_000)
    small = Page(Rows(bytes(6_400), 64), ())
    seen = []
    for _ in range(4):
        size.note(small, 0.01)
        seen.append(size.rows)
    assert seen == [512, 4_096, 5_000, 5_000]
    size.note(small, 1.5)
    assert size.rows == 2_500
    size.note(Page(Rows(bytes(8 << 20), 64), ()), 0.01)
    assert size.rows == 32
