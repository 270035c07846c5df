"""What a declared tolerance is: a decimal number above 0, kept as its one text, so that every region means the same.

``float`` and ``decimal`` columns may have one; CANONICAL.md says what it does to a value's bytes.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from paritree.core.errors import ConfigError

TOLERANT: Final = frozenset({"float", "decimal"})
"""Types of columns that may have a tolerance."""
DIGITS_MAX: Final = 1_100
"""Digits before the point, or after it: the finest 64-bit float, 2^-1074, has 1,074; Python reads 4,300 at once."""
FLOAT_DIGITS_MAX: Final = 15
"""Significant digits that every 64-bit float keeps: one that was written with more may not be what was meant."""
_NUMBER = re.compile(r"\+?([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]{1,5}))?")
_EXAMPLE: Final = "such as tolerance = 0.01"


def parse_tolerance(declared: object, where: str) -> str:
    """The one text of a tolerance: no exponent, no superfluous zeros. ``where`` names the place for the message.

    ``declared`` is text, a whole number, a Decimal, or a float for the number that its shortest text says. Raises
    ConfigError for anything else, and unless the number is above 0.
    """
    match = _NUMBER.fullmatch(_text(declared, where))
    whole, fraction, exponent = match.groups() if match else ("", "", None)
    digits = (whole + (fraction or "")).lstrip("0")
    kept = digits.rstrip("0")
    if not kept:
        raise ConfigError(f"{where}: a tolerance is a decimal number above 0", next_step=_EXAMPLE)
    power = int(exponent or 0) - len(fraction or "") + len(digits) - len(kept)
    if len(kept) + power > DIGITS_MAX or -power > DIGITS_MAX:
        raise ConfigError(f"{where}: a tolerance has at most {DIGITS_MAX} digits before the point, and after it")
    if isinstance(declared, float) and len(kept) > FLOAT_DIGITS_MAX:
        raise ConfigError(
            f"{where}: a number has at most {FLOAT_DIGITS_MAX} digits that are exact",
            next_step=f'write the tolerance as text, such as tolerance = "{_plain(kept, power)}"',
        )
    return _plain(kept, power)


def _text(declared: object, where: str) -> str:
    if isinstance(declared, str):
        return declared.strip()
    if isinstance(declared, int | float | Decimal) and not isinstance(declared, bool):
        try:
            return str(declared)
        except ValueError:  # more digits than Python writes
            return "9e99999"
    raise ConfigError(
        f"{where}: a tolerance is a number or its text, not {type(declared).__name__}", next_step=_EXAMPLE
    )


def _plain(digits: str, power: int) -> str:
    if power >= 0:
        return digits + "0" * power
    digits = digits.rjust(1 - power, "0")
    return f"{digits[:power]}.{digits[power:]}"
