"""SPIFFE names of agents and operators: ``spiffe://<trust domain>/region/<region>/agent/<name>`` and
``spiffe://<trust domain>/operator/<name>``. Pure; see https://spiffe.io, "The SPIFFE Identity and Verifiable Identity
Document", section 2, for the characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_URI = re.compile(r"spiffe://([a-z0-9._-]{1,255})((?:/[A-Za-z0-9._-]{1,64})*)")


@dataclass(frozen=True, slots=True)
class AgentName:
    """An edge agent of one region."""

    trust_domain: str
    region: str
    name: str

    @property
    def uri(self) -> str:
        return f"spiffe://{self.trust_domain}/region/{self.region}/agent/{self.name}"


@dataclass(frozen=True, slots=True)
class OperatorName:
    """A person or a machine that asks the coordinator for sweeps."""

    trust_domain: str
    name: str

    @property
    def uri(self) -> str:
        return f"spiffe://{self.trust_domain}/operator/{self.name}"


def parse_name(uri: str) -> AgentName | OperatorName | None:
    """The agent or operator that a URI names, or None for anything else."""
    match = _URI.fullmatch(uri)
    if match is None:
        return None
    trust_domain, segments = match.group(1), match.group(2).split("/")[1:]
    if any(segment in (".", "..") for segment in segments):
        return None
    match segments:
        case ["region", region, "agent", name]:
            return AgentName(trust_domain, region, name)
        case ["operator", name]:
            return OperatorName(trust_domain, name)
        case _:
            return None


def is_trust_domain(text: str) -> bool:
    """True for lower-case letters, digits, dots, dashes and underscores."""
    return _TRUST_DOMAIN.fullmatch(text) is not None


def is_segment(text: str) -> bool:
    """True for what may name a region, an agent or an operator in a certificate."""
    return _SEGMENT.fullmatch(text) is not None and text not in (".", "..")
