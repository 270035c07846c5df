"""Numbers: exact at any length, without Python's limit on int <-> str and without the decimal context."""

from __future__ import annotations

import math
import re
import struct
from decimal import Decimal
from typing import NamedTuple

from paritree.core.canonical.pack import ext, pack
from paritree.core.digits import int_digits
from paritree.core.errors import DeadLetter

EXT_NUMBER = 1
INTEGER_DIGITS_MAX = 131_072
FRACTION_DIGITS_MAX = 16_383
"""PostgreSQL's numeric holds exactly these; Cassandra accepts 1E+2000000000, which must not be expanded."""
JSON_INTEGER_DIGITS_MAX = 10_001
JSON_FRACTION_DIGITS_MAX = 10_000
INT_MIN, INT_MAX = -(1 << 63), (1 << 64) - 1
_INT_BITS_MAX = 435_412
"""10^131072 has this many bits: a longer int has too many digits, which is known without the quadratic conversion."""
_EXPONENT_DIGITS_MAX = 18
"""A longer exponent is as good as this one: no text is long enough to bring the number back into range."""

_ZEROS = "0" * 64
"""From so many trailing zeros on they are not stripped digit by digit: a few bytes can mean 131,072 of them."""

_NUMBER = re.compile(r"([+-]?)(?:([0-9]+)(?:\.([0-9]*))?|\.([0-9]+))(?:[eE]([+-]?)0*([0-9]*))?(?<![eE+-])")
_SPECIAL = {
    "nan": "NaN",
    "infinity": "Infinity",
    "+infinity": "Infinity",
    "-infinity": "-Infinity",
    "inf": "Infinity",
    "+inf": "Infinity",
    "-inf": "-Infinity",
}


class Digits(NamedTuple):
    """A finite decimal: sign · digits · 10^exponent, with neither leading nor trailing zeros; zero is ("", 0)."""

    negative: bool
    digits: str
    exponent: int

    @property
    def integer_digits(self) -> int:
        return max(0, len(self.digits) + self.exponent)

    @property
    def fraction_digits(self) -> int:
        return max(0, -self.exponent)


def normal(negative: bool, digits: str, exponent: int) -> Digits:
    """Strip zeros at both ends; the value is unchanged."""
    digits = digits.lstrip("0")
    many = digits.endswith(_ZEROS)
    stripped = digits[: 1 + max(map(digits.rfind, "123456789"))] if many else digits.rstrip("0")
    if not stripped:
        return Digits(False, "", 0)
    return Digits(negative, stripped, exponent + len(digits) - len(stripped))


def parse_number(value: object) -> Digits | str:
    """A number as :class:`Digits`, or one of the texts NaN, Infinity, -Infinity. Raises DeadLetter."""
    if isinstance(value, bool):
        raise DeadLetter("a bool where a number belongs")
    if isinstance(value, int):
        if value.bit_length() > _INT_BITS_MAX:
            raise DeadLetter(f"number has more than {INTEGER_DIGITS_MAX} integer digits")
        value = int_digits(value)
    if isinstance(value, Decimal):
        value = "NaN" if value.is_nan() else str(value)
    if not isinstance(value, str):
        raise DeadLetter(f"a {type(value).__name__} where a number belongs")
    match = _NUMBER.fullmatch(value)
    if match is None:
        special = _SPECIAL.get(value.lower())
        if special is None:
            raise DeadLetter("not a number")
        return special
    sign, whole, fraction, only_fraction, exponent_sign, exponent_digits = match.groups()
    fraction = only_fraction or fraction or ""
    exponent = int((exponent_digits or "0")[:_EXPONENT_DIGITS_MAX])
    return normal(
        sign == "-", (whole or "") + fraction, (-exponent if exponent_sign == "-" else exponent) - len(fraction)
    )


def rounded(number: Digits, scale: int, mode: str) -> Digits:
    """The nearest multiple of 10^-scale by ``mode``; exact at any length, and without expanding huge exponents."""
    drop = -scale - number.exponent
    if drop <= 0 or not number.digits:
        return number
    kept = number.digits[:-drop] if drop < len(number.digits) else ""
    removed = number.digits[-drop:] if drop <= len(number.digits) else "0"  # far below half a unit
    if mode == "floor":
        up = number.negative
    elif mode == "truncate":
        up = False
    else:
        half = removed[0] == "5" and not removed[1:].strip("0")
        odd = bool(kept) and kept[-1] in "13579"
        up = removed[0] > "5" or (removed[0] == "5" and not half) or (half and (mode == "half_up" or odd))
    if up:
        kept = _increment(kept)
    return normal(number.negative, kept, -scale)


def _increment(digits: str) -> str:
    head = digits.rstrip("9")
    zeros = "0" * (len(digits) - len(head))
    return head[:-1] + chr(ord(head[-1]) + 1) + zeros if head else "1" + zeros


def plain_text(number: Digits) -> str:
    """No exponent, no superfluous zeros, zero without a sign. The caller has checked the number of digits."""
    if not number.digits:
        return "0"
    sign = "-" if number.negative else ""
    if number.exponent >= 0:
        return sign + number.digits + "0" * number.exponent
    whole, fraction = number.digits[: number.exponent], number.digits[number.exponent :]
    return f"{sign}{whole or '0'}.{fraction.rjust(-number.exponent, '0')}"


def _checked(number: Digits, integer_max: int, fraction_max: int) -> Digits:
    if number.integer_digits > integer_max:
        raise DeadLetter(f"number has more than {integer_max} integer digits")
    if number.fraction_digits > fraction_max:
        raise DeadLetter(f"number has more than {fraction_max} fraction digits")
    return number


def _pack_text(text: str) -> bytes:
    return ext(EXT_NUMBER, text.encode("ascii"))


def encode_integral(number: Digits) -> bytes:
    """An integral number as MessagePack int, or as ext 1 beyond 64 bits."""
    text = plain_text(number)
    if len(text) <= 21 and INT_MIN <= (small := int(text)) <= INT_MAX:
        return pack(small)
    return _pack_text(text)


def encode_whole(number: int) -> bytes:
    """An int of any length as :func:`encode_integral` writes it, without a limit on its digits."""
    if INT_MIN <= number <= INT_MAX:
        return pack(number)
    return _pack_text(int_digits(number))


def encode_special(text: str) -> bytes:
    """``NaN``, ``Infinity`` or ``-Infinity``, as in decimals."""
    return _pack_text(text)


def encode_int(value: object) -> bytes:
    """Canonical bytes of an int; decimals and text are taken when they are integral. Raises DeadLetter."""
    if type(value) is int and INT_MIN <= value <= INT_MAX:
        return pack(value)
    number = parse_number(value)
    if isinstance(number, str) or number.exponent < 0:
        raise DeadLetter("not an integral number")
    return encode_integral(_checked(number, INTEGER_DIGITS_MAX, 0))


def encode_decimal(value: object, scale: int | None, mode: str) -> bytes:
    """Canonical bytes of a decimal, rounded to ``scale`` first where one is declared. Raises DeadLetter."""
    number = ruled_decimal(value, scale, mode)
    return _pack_text(number if isinstance(number, str) else plain_text(number))


def ruled_decimal(value: object, scale: int | None, mode: str) -> Digits | str:
    """A decimal rounded to its scale and within the limits, or NaN, Infinity, -Infinity. Raises DeadLetter."""
    number = parse_number(value)
    if isinstance(number, str):
        return number
    if scale is not None:
        number = rounded(number, scale, mode)
    return _checked(number, INTEGER_DIGITS_MAX, FRACTION_DIGITS_MAX)


def encode_json_number(text: str) -> bytes:
    """A JSON number by value: int where it is integral, else decimal. Raises DeadLetter."""
    number = parse_number(text)
    if isinstance(number, str):
        raise DeadLetter("JSON has no NaN and no infinity")
    number = _checked(number, JSON_INTEGER_DIGITS_MAX, JSON_FRACTION_DIGITS_MAX)
    return encode_integral(number) if number.exponent >= 0 else _pack_text(plain_text(number))


def encode_float(value: object) -> bytes:
    """Canonical bytes of a float: 64 bits, one zero, one NaN. Raises DeadLetter."""
    value = checked_float(value)
    if math.isnan(value):
        return b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"
    return b"\xcb" + struct.pack(">d", value + 0.0)


def checked_float(value: object) -> float:
    """A float, also from an int that it holds exactly. Raises DeadLetter."""
    if isinstance(value, bool) or not isinstance(value, float | int):
        raise DeadLetter(f"a {type(value).__name__} where a float belongs")
    return _exact_float(value) if isinstance(value, int) else value


def _exact_float(value: int) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if number != value:
        raise DeadLetter("an integer that a float cannot hold exactly")
    return number
