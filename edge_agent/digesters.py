"""Which digester a task uses. The compiled one equals the plain one; there is no silent fall-back."""

from __future__ import annotations

import os

from paritree.core.digest import DatasetKeys
from paritree.core.digester import Digester, PlainDigester
from paritree.core.errors import ConfigError
from paritree.core.profile import Profile

KINDS = ("compiled", "plain")


def open_digester(kind: str, profile: Profile, keys: DatasetKeys) -> Digester:
    """The digester of that kind for a profile. Raises ConfigError for an unknown kind."""
    if kind == "plain":
        return PlainDigester(profile, keys, os.urandom)
    if kind == "compiled":
        from paritree.core.fast.digester import CompiledDigester

        return CompiledDigester(profile, keys, os.urandom)
    raise ConfigError(f"unknown digester '{kind}'", next_step=f"one of {', '.join(KINDS)}")
