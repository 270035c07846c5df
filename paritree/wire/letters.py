"""Dead letters <-> their generated messages, which come from the codec: this module imports none of them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeVar

from paritree.core import messages as m
from paritree.core.deadletters import Letter, LetterAction, LetterKind, LetterState
from paritree.core.limits import LETTERS_MAX
from paritree.wire.validity import Malformed

E = TypeVar("E", bound=StrEnum)
_PLAIN = ("id", "dataset", "reason", "keyed", "first_seen_us", "last_seen_us", "sweep_id", "count", "note")


def put_letters_ask(out: Any, ask: m.AskLetters) -> None:
    """Write a request about letters."""
    out.dataset, out.action, out.reason, out.operator = ask.dataset, ask.action, ask.reason, ask.operator
    out.ids.extend(ask.ids)


def get_letters_ask(ask: Any) -> m.AskLetters:
    """Read a request about letters. Raises Malformed."""
    action = _named(LetterAction, "letters.action", ask.action)
    return m.AskLetters(ask.dataset, action, tuple(ask.ids), ask.reason, ask.operator)


def put_letters(out: Any, body: m.Letters) -> None:
    """Write letters."""
    out.not_kept = body.not_kept
    out.cleared.extend(body.cleared)
    out.unknown.extend(body.unknown)
    for letter in body.letters:
        one = out.letters.add(kind=letter.kind, state=letter.state, **{name: getattr(letter, name) for name in _PLAIN})
        one.columns.extend(letter.columns)


def get_letters(body: Any) -> m.Letters:
    """Read letters. Raises Malformed."""
    if len(body.letters) > LETTERS_MAX:  # half a million empty ones fit into one message
        raise Malformed(f"letters.letters has more than {LETTERS_MAX} entries")
    return m.Letters(
        letters=tuple(_letter(one) for one in body.letters),
        not_kept=body.not_kept,
        cleared=tuple(body.cleared),
        unknown=tuple(body.unknown),
    )


def _letter(one: Any) -> Letter:
    return Letter(
        kind=_named(LetterKind, "letter.kind", one.kind),
        state=_named(LetterState, "letter.state", one.state),
        columns=tuple(one.columns),
        **{name: getattr(one, name) for name in _PLAIN},
    )


def _named(kind: type[E], field: str, text: str) -> E:
    try:
        return kind(text)
    except ValueError:
        raise Malformed(f"{field} is unknown") from None
