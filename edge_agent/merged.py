"""What merged the keys that occur more than once: said in the region's notes, also where all regions agree on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from edge_agent.build import Copy
from edge_agent.index.copies import copies
from edge_agent.index.index import Index
from edge_agent.looking import Seen, merged, read_now
from paritree.core.errors import SourceError
from paritree.core.merging_rules import rules
from paritree.core.profile import Profile

KEYS_MAX: Final = 1_000
"""Duplicate keys that are looked at: one look-up at the source. A key that a rule merges comes with others like it."""
ONE_FORM: Final = frozenset({"text", "bytes", "bool"})
"""Types whose carriers have one form for each canonical value: nothing but a rule can merge them."""


def merged_note(copy: Copy, index: Index, duplicate_keys: int) -> str:
    """A sentence for the report, "" where no key was merged: columns, rules and how many keys, no value."""
    try:
        return _note(copy, index, duplicate_keys) if duplicate_keys else ""
    except SourceError as error:  # the region is compared all the same
        return f"what merged duplicate keys could not be read: {error.message}"


def _note(copy: Copy, index: Index, duplicate_keys: int) -> str:
    held = copies(index, index.repeated(KEYS_MAX))
    several = {digest: one for digest, one in held.items() if one.total > 1}
    found = {digest: rules(copy.profile, [(key, ()) for key in one.locators]) for digest, one in several.items()}
    unexplained = {digest: several[digest].locators for digest, by in found.items() if not by}
    if unexplained and _has_forms(copy.profile):
        fresh = read_now(copy, unexplained)
        found |= {digest: merged(copy.profile, _sure(fresh.get(digest, ()))) for digest in unexplained}
    counts = Counter(rule for by in found.values() for rule in by)
    if not counts:
        return ""
    named = ", ".join(f"{rule} ({count})" for rule, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])))
    some = f" of the {len(found):,} that were looked at" if len(found) < duplicate_keys else ""
    return f"keys that occur more than once were merged by{some}: {named}"


def _sure(rows: Sequence[Seen]) -> Sequence[Seen]:
    return [seen for seen in rows if seen.row.locator is not None]


def _has_forms(profile: Profile) -> bool:
    """Whether the source may hold keys apart that are one without any rule; a whole row cannot be looked up."""
    return not profile.whole_row and any(profile.columns[name].name not in ONE_FORM for name in profile.key)
