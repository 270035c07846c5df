"""CSV: text columns, one piece a file, read as a stream of blocks.

An unquoted empty field is NULL and a quoted one an empty text, unless ``null`` names another mark. Options (of the
URL's query or the source): ``delimiter`` (default ``,``; ``tab``), ``quote`` (default ``"``; empty: no quoting),
``escape`` (default none: a quote is doubled), ``null`` (default empty), ``encoding`` (default utf-8), ``header`` (names
with commas, for files whose first row is data), ``block_bytes`` (default 8 MiB; a row must fit in one).

Empty lines are skipped, except in files of one column, where each is a NULL. A row with a wrong number of fields is an
error that names its file and row. So is a quote that is never closed: the parser itself would take the rest of the file
for one value, hence a sentinel row is fed to it after the file's end, which must come back as the last row.
"""

from __future__ import annotations

import codecs
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import pyarrow as pa
import pyarrow.csv as pa_csv

from edge_agent.connectors.columns import Item, Reject, assemble, items
from edge_agent.connectors.files.errors import translated
from edge_agent.connectors.files.format import Piece
from edge_agent.connectors.files.sentinel import WithSentinel, lent
from edge_agent.connectors.keyfilter import Key, askable
from edge_agent.connectors.translation import load
from paritree.core.errors import ConfigError, SourceError
from paritree.core.profile import Binding
from paritree.core.schema import SourceColumn

PACKAGE = "edge_agent.connectors.files"
OPTIONS = frozenset({"delimiter", "quote", "escape", "null", "encoding", "header", "block_bytes"})
BLOCK_BYTES = 8 << 20
_UNREADABLE = frozenset({"list", "set", "map", "struct"})
"""Logical types that have no text form to read."""


@dataclass(frozen=True, slots=True)
class Csv:
    """The CSV format with one dialect."""

    delimiter: str = ","
    quote: str = '"'
    escape: str = ""
    null: str = ""
    encoding: str = "utf-8"
    header: tuple[str, ...] = ()
    block_bytes: int = BLOCK_BYTES
    name: str = "CSV"

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Self:
        """The dialect of a URL's options. Raises ConfigError."""
        given = dict(options)
        delimiter = {"tab": "\t", "\\t": "\t"}.get(given.get("delimiter", ","), given.get("delimiter", ","))
        quote, escape = given.get("quote", '"'), given.get("escape", "")
        if len(delimiter) != 1 or len(quote) > 1 or len(escape) > 1:
            raise ConfigError("csv: delimiter is one character, quote and escape one or none")
        size = given.get("block_bytes", str(BLOCK_BYTES))
        if not size.isdigit() or not 1 << 12 <= int(size) <= 1 << 30:
            raise ConfigError("csv: block_bytes is a number of bytes from 4 KiB to 1 GiB")
        try:
            encoding = codecs.lookup(given.get("encoding", "utf-8")).name
        except LookupError:
            raise ConfigError(f"csv: unknown encoding '{given['encoding']}'") from None
        header = tuple(given["header"].split(",")) if given.get("header") else ()
        return cls(delimiter, quote, escape, given.get("null", ""), encoding, header, int(size))

    def columns(self, path: str) -> tuple[SourceColumn, ...]:
        names = self._names(path)
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(
                f"{path} has two columns '{repeated}'", next_step="name the columns with header=a,b,c, or fix the file"
            )
        row = load(PACKAGE)["csv"]
        return tuple(row.column(name, "csv", typed=False) for name in names)

    def pieces(self, _path: str, _shard_rows: int) -> list[tuple[Piece, int]]:
        return [({}, 0)]

    def fingerprints(self, _path: str, _names: Sequence[str], _piece: Piece | None) -> list[tuple[str, int]]:
        """A row of CSV is found only by reading all before it."""
        return []

    def piece_of(self, _parts: Sequence[int]) -> Piece:
        return {}

    def read(self, path: str, _piece: Piece, _names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        known = self._names(path)
        token = secrets.token_hex(16)
        bad: list[pa_csv.InvalidRow] = []
        convert = pa_csv.ConvertOptions(
            column_types={name: pa.binary() for name in known},
            null_values=[self.null],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        row = token + self.delimiter * (len(known) - 1) + "\n"
        held: pa.RecordBatch | None = None
        with self._stream(path, row) as stream, self._explained(path, bad), lent(stream):
            batches = pa_csv.open_csv(stream, self._reading(), self._parsing(len(known), bad), convert)
            try:
                for batch in batches:
                    if batch.num_rows:
                        if held is not None:
                            yield held
                        held = batch
            finally:
                del batches
        if held is None or held.column(0)[-1].as_py() != token.encode():
            raise SourceError(f"{path}: a quote is never closed", next_step="fix the file, or set quote= in the URL")
        yield held.slice(0, held.num_rows - 1)

    def bound(self, batch: pa.RecordBatch, binding: Binding) -> pa.RecordBatch:
        made = [_carrier(item, batch.column(item.source)) for item in items(binding.columns)]
        rejects = [reject for _, found in made for reject in found]
        return assemble(binding.columns, [array for array, _ in made], batch.num_rows, rejects)

    def narrowed(self, _path: str, piece: Piece, _binding: Binding) -> Piece:
        """Nothing is known of a part of a CSV file before it is read."""
        return piece

    def asks(self, _binding: Binding) -> bool:
        return False

    def promising(self, _path: str, _binding: Binding, keys: Sequence[Key]) -> Piece | None:
        return {} if askable(keys) else None

    def check(self, binding: Binding) -> None:
        for column in binding.columns:
            if column.type.name in _UNREADABLE:
                raise ConfigError(
                    f"column '{column.name}' of {binding.table}: CSV text cannot be read as {column.type}",
                    next_step="ignore the column, or compare it as text or json",
                )

    def _names(self, path: str) -> tuple[str, ...]:
        if self.header:
            return self.header
        with translated(path, self.name):
            open(path, "rb").close()  # not there or not for us: then nothing is said of its header
        try:
            with self._stream(path, "") as stream, translated(path, self.name), lent(stream):
                return tuple(pa_csv.open_csv(stream, self._reading(), self._parsing(0, [])).schema.names)
        except SourceError as error:
            raise ConfigError(
                f"{path}: no header with column names can be read",
                next_step="check the file, or set header=a,b,c or block_bytes",
            ) from error

    @contextmanager
    def _stream(self, path: str, row: str) -> Iterator[WithSentinel]:
        with translated(path, self.name):
            raw = pa.input_stream(path, compression="detect")
        with WithSentinel(raw, self.encoding, row.encode()) as stream:
            yield stream

    @contextmanager
    def _explained(self, path: str, bad: list[pa_csv.InvalidRow]) -> Iterator[None]:
        try:
            with translated(path, self.name):
                yield
        except SourceError:
            if not bad:
                raise
            raise SourceError(
                f"{path}, row {bad[0].number}: {bad[0].actual_columns} fields where the header has "
                f"{bad[0].expected_columns}",
                next_step="fix the row; a field with the delimiter needs quotes",
            ) from None

    def _reading(self) -> pa_csv.ReadOptions:
        return pa_csv.ReadOptions(
            use_threads=False, block_size=self.block_bytes, column_names=list(self.header) or None
        )

    def _parsing(self, columns: int, bad: list[pa_csv.InvalidRow]) -> pa_csv.ParseOptions:
        def refuse(row: pa_csv.InvalidRow) -> str:
            bad.append(row)
            return "error" if columns else "skip"  # the header is read first; rows are judged when they are read

        return pa_csv.ParseOptions(
            delimiter=self.delimiter,
            quote_char=self.quote or False,
            escape_char=self.escape or False,
            double_quote=not self.escape,
            newlines_in_values=True,
            ignore_empty_lines=columns != 1,
            invalid_row_handler=refuse,
        )


def _carrier(item: Item, array: pa.Array) -> tuple[pa.Array, list[Reject]]:
    """Text as utf8; where some of it is not UTF-8, a text column goes out as bytes and others reject the value."""
    try:
        return array.cast(pa.utf8()), []
    except pa.ArrowInvalid:
        if item.type.name == "text" and not item.part:
            return array, []
    texts: list[str | None] = []
    rejects: list[Reject] = []
    for row, value in enumerate(array.to_pylist()):
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            texts.append(None)
            rejects.append((row, item.column, "text that is not UTF-8"))
    return pa.array(texts, pa.utf8()), rejects
