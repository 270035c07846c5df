"""One bucket of a scope: agents scan and compare just its rows, the coordinator names it by an id that says nothing."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from msgpack import packb

from edge_agent.policy import Policy
from edge_agent.scoping import Hidden, NoBucket
from paritree.core.digest import DatasetKeys
from paritree.core.errors import ConfigError
from paritree.core.profile import Profile
from paritree.core.scope import Cut, Scope
from paritree.core.scope_labels import content, id_bytes, id_text
from paritree.core.types import parse_type

TENANT = Scope("tenant", "value", ("name",))
SLICE = Scope("slice", "hash", ("id",), 8)
KEYS = DatasetKeys.of(bytes(range(32)), "orders")
ROWS: list[tuple[Any, ...]] = [(i, f"t{i % 10}" if i % 11 else None, f"{i}.5") for i in range(1_000)]


def bucket(profile: Profile, scope: Scope, text: str, keys: DatasetKeys = KEYS) -> dict[str, Any]:
    hidden = Hidden.of(scope, profile, keys)
    return {"scope": scope.name, "bucket": hidden.bucket_id(content(hidden.cut, text))}


def tenants(rows: list[tuple[Any, ...]], name: str | None) -> int:
    return sum(row[1] == name for row in rows)


@pytest.mark.parametrize("digester", ["plain", "compiled"])
def test_a_bucket_is_compared_alone(memory_regions, digester):
    regions = memory_regions()
    other = [(i, name, "0" if i in (3, 4) else amount) for i, name, amount in ROWS if i not in (13, 24)]
    for name, rows in (("eu", ROWS), ("us", other), ("ap", ROWS)):
        regions.add(name, rows, scopes=(TENANT, SLICE), digester=digester, shard_rows=100, policy=Policy("keys"))
    named = bucket(regions.profile, TENANT, "t3")
    report = regions.sweep(**named, purpose="test")
    assert report["verdict"] == "different"
    assert {(f["key"]["id"], f["kind"]) for f in report["findings"]} == {(3, "different"), (13, "missing")}
    assert [r["rows"] for r in report["regions"]] == [tenants(ROWS, "t3"), tenants(ROWS, "t3") - 1, tenants(ROWS, "t3")]
    assert report["scope"] == {"name": "tenant", "bucket": id_text(named["bucket"])}
    assert id_bytes(report["scope"]["bucket"].lower()) == named["bucket"]
    assert any("rows of other buckets were read too" in note for note in report["notes"])
    assert regions.sweep(**bucket(regions.profile, TENANT, "t5"))["verdict"] == "equal"
    assert regions.sweep()["scope"] is None


def test_the_buckets_of_a_scope_are_the_dataset(memory_regions):
    regions = memory_regions()
    changed = [(i, name, "0" if i % 100 == 7 else amount) for i, name, amount in ROWS]
    regions.add("eu", ROWS, scopes=(TENANT, SLICE), policy=Policy("keys"))
    regions.add("us", changed, scopes=(TENANT, SLICE), policy=Policy("keys"))
    for scope, labels in ((TENANT, ["null", *(f"t{n}" for n in range(10))]), (SLICE, [str(n) for n in range(8)])):
        reports = [regions.sweep(**bucket(regions.profile, scope, text), purpose="x") for text in labels]
        assert sum(r["regions"][0]["rows"] for r in reports) == len(ROWS)
        found = [f["key"]["id"] for report in reports for f in report["findings"]]
        assert sorted(found) == list(range(7, 1_000, 100))


def test_a_row_in_another_bucket_elsewhere_is_missing_there(memory_regions):
    regions = memory_regions()
    moved = [(i, "t9" if i == 3 else name, amount) for i, name, amount in ROWS]
    regions.add("eu", ROWS, scopes=(TENANT,), policy=Policy("keys", sealed_keys=True))
    regions.add("us", moved, scopes=(TENANT,), policy=Policy("keys", sealed_keys=True))
    for text, missing in (("t3", ["us"]), ("t9", ["eu"])):
        report = regions.sweep(**bucket(regions.profile, TENANT, text), purpose="test")
        [finding] = report["findings"]
        assert (finding["key"], finding["kind"], finding["missing_in"]) == ({"id": 3}, "missing", missing)


def test_a_row_that_comes_into_the_bucket_between_looks_heals(memory_regions):
    regions = memory_regions()
    moved = [(i, "t9" if i == 3 else name, amount) for i, name, amount in ROWS]
    regions.add("eu", ROWS, scopes=(TENANT,))
    regions.add("us", moved, scopes=(TENANT,))
    regions.stores["us"].before_shard = None
    looked = regions.links["us"]._service._detail

    def repaired(sweep, ask):
        regions.put("us", ROWS)
        return looked(sweep, ask)

    regions.links["us"]._service._detail = repaired
    report = regions.sweep(**bucket(regions.profile, TENANT, "t3"))
    assert (report["verdict"], report["summary"]["healed"]) == ("equal", 1)


def test_an_empty_bucket_is_equal_and_says_so_and_one_that_a_region_lacks_is_missing(memory_regions):
    regions = memory_regions()
    regions.add("eu", ROWS, scopes=(TENANT,))
    regions.add("us", [row for row in ROWS if row[1] != "t3"], scopes=(TENANT,))
    report = regions.sweep(**bucket(regions.profile, TENANT, "nobody"))
    assert report["verdict"] == "equal"
    assert "no region has a row of this bucket" in report["verdicts"][0]["reason"]
    report = regions.sweep(**bucket(regions.profile, TENANT, "t3"))
    assert report["summary"]["missing"] == {"us": tenants(ROWS, "t3")}


@pytest.mark.parametrize(
    ("scopes", "word"),
    [
        ((), "declares no scope 'tenant' of orders"),
        ((SLICE,), "it has slice"),
        ((Scope("tenant", "value", ("id",)),), "declares this scope otherwise"),
        ((Scope("tenant", "hash", ("name",), 4),), "declares this scope otherwise"),
    ],
)
def test_a_region_without_the_scope_or_with_another_one_is_unknown(memory_regions, scopes, word):
    regions = memory_regions()
    regions.add("eu", ROWS, scopes=(TENANT,))
    regions.add("us", ROWS, scopes=(TENANT,))
    regions.add("ap", ROWS, scopes=scopes)
    report = regions.sweep(**bucket(regions.profile, TENANT, "t3"))
    assert report["verdict"] == "unknown"
    [stated] = report["verdicts"]
    assert stated["regions"] == ["ap"]
    assert word in stated["reason"]
    alone = regions.sweep(**bucket(regions.profile, TENANT, "t3"), regions=["eu", "ap"])
    assert alone["verdict"] == "unknown"
    assert not any(v["verdict"] == "equal" for v in alone["verdicts"])


@pytest.mark.parametrize("bad", [b"\0" * 32, b"x", bytes(1_000)])
def test_an_id_that_no_agent_has_made_is_unknown_everywhere(memory_regions, bad):
    regions = memory_regions()
    regions.add("eu", ROWS, scopes=(TENANT,))
    regions.add("us", ROWS, scopes=(TENANT,))
    report = regions.sweep(scope="tenant", bucket=bad)
    assert report["verdict"] == "unknown"
    assert {r["rows"] for r in report["regions"]} == {None}
    assert all(
        "no bucket of scope tenant has that id" in v["reason"] for v in report["verdicts"] if len(v["regions"]) == 1
    )


def test_a_header_of_another_definition_or_bucket_is_never_compared(memory_regions):
    regions = memory_regions()
    for name in ("eu", "us"):
        regions.add(name, ROWS, scopes=(TENANT,))
    service = regions.links["us"]._service
    opened = service._open

    def other(field: str, value: bytes) -> None:
        def lying(sweep_id, begin):
            sweep = opened(sweep_id, begin)
            sweep.header = type(sweep.header)(*[value if n == field else getattr(sweep.header, n) for n in FIELDS])
            return sweep

        service._open = lying

    for field, value, word in (
        ("scope_id", bytes(8), "no two regions have the same profile, canonical version, key and scope"),
        ("bucket", b"b" * 32, "another part of the dataset"),
    ):
        other(field, value)
        report = regions.sweep(**bucket(regions.profile, TENANT, "t3"))
        assert report["verdict"] == "unknown"
        assert any(word in stated["reason"] for stated in report["verdicts"])


FIELDS = (
    *("dataset", "profile_id", "canonical_version", "key_id", "sweep_id", "position"),
    *("scope", "scope_id", "bucket"),
)


def test_rows_whose_bucket_cannot_be_told_are_dead_letters_of_the_sweep(memory_regions):
    regions = memory_regions()
    regions.add("eu", [(1, "a", "1"), (2, "b", "1")], scopes=(TENANT,))
    regions.add("us", [(1, "a", "1"), (2, "b\0", "1")], scopes=(TENANT,))
    report = regions.sweep(**bucket(regions.profile, TENANT, "a"))
    assert report["verdict"] == "unknown"
    assert [r["dead_letters"] for r in report["regions"]] == [0, 1]


def test_ids_hide_what_they_stand_for() -> None:
    profile = Profile("orders", ("id",), {"id": parse_type("int"), "name": parse_type("text")})
    hidden = Hidden.of(TENANT, profile, KEYS)
    ids = {text: hidden.bucket_id(content(hidden.cut, text)) for text in ("a", "b", "acme", "null")}
    assert len(set(ids.values())) == 4
    assert len(set(map(len, ids.values()))) == 1
    assert hidden.bucket_id(content(hidden.cut, "a")) == ids["a"]
    assert hidden.opened(ids["acme"]).content == content(hidden.cut, "acme")
    others = [
        Hidden.of(TENANT, profile, DatasetKeys.of(bytes(32), "orders")),
        Hidden.of(Scope("other", "value", ("name",)), profile, KEYS),
        Hidden.of(Scope("tenant", "hash", ("name",), 3), profile, KEYS),
    ]
    for other in others:
        assert other.scope_id != hidden.scope_id or other.cut.scope == TENANT
        with pytest.raises(NoBucket, match="has that id here"):
            other.opened(ids["a"])
    with pytest.raises(NoBucket, match="512 bytes"):
        hidden.bucket_id(content(hidden.cut, "x" * 600))
    with pytest.raises(NoBucket):
        hidden.opened(ids["a"][:-1] + bytes([ids["a"][-1] ^ 1]))


def test_ids_are_those_that_canonical_md_defines() -> None:
    profile = Profile("orders", ("id",), {"id": parse_type("int"), "at": parse_type("timestamp(ms)")})
    hidden = Hidden.of(Scope("month", "month", ("at",)), profile, KEYS)
    definition = {
        "buckets": 0,
        "canonical": 1,
        "columns": [["at", {"precision": "ms", "type": "timestamp"}]],
        "kind": "month",
        "name": "month",
    }
    scope_id = blake2b(packb(definition), key=KEYS.derive(b"scope-id"), digest_size=8).digest()
    assert hidden.scope_id == scope_id
    assert scope_id.hex() == "1681039d7c1fa2d5"
    siv = AESSIV(KEYS.derive(b"scope:month") + KEYS.derive(b"scope-mac:month"))
    content_bytes = b"\x92\xcd\x07\xe8\x05"  # [2024, 5]
    bucket_id = siv.encrypt(b"\x00\x05" + content_bytes + bytes(9), [scope_id])
    assert hidden.bucket_id(content(hidden.cut, "2024-05")) == bucket_id
    assert id_text(bucket_id) == "WYPLEWWK7MOTUSM64RFECJL2DD4YOEKJLFC2BO6ITP6NY42QLAOA"
    by = Cut.of(SLICE, profile, KEYS.derive(b"scope-hash:slice"))
    number = int.from_bytes(blake2b(b"\x07", key=KEYS.derive(b"scope-hash:slice"), digest_size=8).digest(), "big") % 8
    assert by.bucket([b"\x07"]) == packb([number])


@pytest.mark.parametrize("text", ["", "0", "AAAA====", "!", "A", "AAAAAAAB1"])
def test_texts_that_are_no_ids(text: str) -> None:
    with pytest.raises(ConfigError, match="is no bucket id"):
        id_bytes(text)
