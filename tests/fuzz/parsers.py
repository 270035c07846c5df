"""All parsers, by name."""

from __future__ import annotations

from typing import Final

import files
import pages
import slots
import stream
import topics
from parser import Parser

PARSERS: Final[dict[str, Parser]] = {
    one.name: one for module in (stream, files, pages, slots, topics) for one in module.PARSERS
}
