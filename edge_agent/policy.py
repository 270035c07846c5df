"""What may leave a region beside digests. Checked and applied at the agent, whatever the coordinator asks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from paritree.core.errors import ConfigError
from paritree.core.profile import Profile

DISCLOSURES: Final = ("nothing", "tokens", "keys")
KEYS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Policy:
    """``disclosure``: "nothing" (no tokens in reports and stores either), "tokens" (the default) or "keys" (clear).

    ``purposes`` are the purposes for which clear keys are granted (empty: any stated purpose); ``keys_max`` bounds
    the clear keys of one sweep. ``sealed_keys`` allows keys to travel to other regions' agents as ciphertext that
    the coordinator cannot open, so that a key which is missing there is looked up instead of searched by a scan.
    ``whole_rows`` lets clear keys leave of datasets whose key is the whole row: all of a row's values.
    """

    disclosure: str = "tokens"
    purposes: tuple[str, ...] = ()
    keys_max: int = KEYS_MAX
    sealed_keys: bool = False
    whole_rows: bool = False

    def about(self, profile: Profile) -> Policy:
        """The policy as it holds for one dataset. Whole rows never travel sealed: they cannot be looked up."""
        if not profile.whole_row:
            return self
        hidden = self.disclosure == "keys" and not self.whole_rows
        return replace(self, sealed_keys=False, disclosure="tokens" if hidden else self.disclosure)

    def __post_init__(self) -> None:
        if self.disclosure not in DISCLOSURES:
            raise ConfigError(
                f"policy: unknown disclosure '{self.disclosure}'", next_step="one of nothing, tokens, keys"
            )
        if self.keys_max < 0:
            raise ConfigError("policy: keys_max is a number of keys, not less than 0")

    def refusal(self, purpose: str, already: int, asked: int) -> str:
        """Why clear keys are not given for that purpose, or "" where they are."""
        if self.disclosure != "keys":
            return f"this region's policy discloses {self.disclosure}, not clear keys"
        if not purpose:
            return "clear keys need a purpose"
        if self.purposes and purpose not in self.purposes:
            return f"this region's policy does not grant clear keys for '{purpose}'"
        if already + asked > self.keys_max:
            return f"this region's policy grants {self.keys_max} clear keys a sweep"
        return ""
