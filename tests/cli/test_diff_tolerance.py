"""``paritree diff --tolerance``: what it compares, says and refuses."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest
from shop import Shop


def tables(shop: Shop) -> tuple[str, str]:
    """Prices 0.02 and weights 0.5 apart in two Parquet files."""
    ids, names = pa.array([1, 2]), pa.array(["a", "b"])
    price = [pa.array([Decimal(text) for text in texts]) for texts in (("1.03", "7.49"), ("1.05", "7.47"))]
    weight = [pa.array([1.75, 2.75]), pa.array([2.25, 3.25])]
    eu, us = (
        shop.parquet(region, id=ids, name=names, price=price[i], weight=weight[i])
        for i, region in enumerate(("eu", "us"))
    )
    return eu, us


def test_the_report_says_what_was_within_tolerance(shop: Shop) -> None:
    flags = ("--key", "id", "--tolerance", "price=0.020", "--tolerance", "weight=0.5", "--lag-max", "0")
    said = shop.run("diff", *tables(shop), *flags)
    assert (said.code, said.document["verdict"]) == (0, "equal")
    assert said.document["columns"]["tolerance"] == {"price": "0.02", "weight": "0.5"}
    assert said.document["summary"]["within_tolerance"] == 2
    assert "tolerance: price 0.02, weight 0.5" in said.stdout
    assert "0 different · 2 within tolerance" in said.stdout
    assert "2 keys are within" in said.reasons


def test_a_column_within_tolerance_is_not_among_those_that_differ(shop: Shop) -> None:
    said = shop.run("diff", *tables(shop), "--key", "id", "--tolerance", "price=0.02", "--lag-max", "0")
    assert said.code == 1
    assert [finding["columns"] for finding in said.document["findings"]] == [["weight"], ["weight"]]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["price"], ["--tolerance price", "COLUMN=T"]),
        (["=1"], ["--tolerance =1", "COLUMN=T"]),
        (["price=1", "price=2"], ["--tolerance price=2", "once a column"]),
        (["price=0"], ["'price'", "above 0", "--tolerance price=0.01"]),
        (["price=-1"], ["'price'", "above 0", "--tolerance price=0.01"]),
        (["weight=NaN"], ["'weight'", "above 0", "--tolerance weight=0.01"]),
        (["weight=1e5000"], ["'weight'", "digits", "--tolerance weight=0.01"]),
        (["name=1"], ["'name'", "float and decimal, not text", "leave out --tolerance name"]),
        (["id=1"], ["'id'", "compared exactly", "leave out --tolerance id"]),
        (["prise=1"], ["'prise'", "did you mean 'price'"]),
    ],
    ids=" ".join,
)
def test_what_is_no_tolerance_is_refused(shop: Shop, given: list[str], words: list[str]) -> None:
    flags = [flag for text in given for flag in ("--tolerance", text)]
    said = shop.refused("diff", *tables(shop), "--key", "id", *flags)
    for word in words:
        assert word in said.error
        assert word in said.stderr


@pytest.mark.parametrize("leaves_out", [["--ignore", "price"], ["--columns", "weight"]])
def test_a_tolerance_for_a_column_that_is_not_compared_is_refused(shop: Shop, leaves_out: list[str]) -> None:
    said = shop.refused("diff", *tables(shop), "--key", "id", "--tolerance", "price=1", *leaves_out)
    assert "'price' has a tolerance and is not compared" in said.error
