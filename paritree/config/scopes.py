"""The scopes of an agent's file: how its datasets are cut into buckets that can be swept alone::

    [scopes.orders.month]
    column = "created_at"
    kind = "month"

    [scopes.orders.tenant]
    column = "tenant_id"
    kind = "value"

    [scopes.orders.slice]
    columns = ["id"]
    kind = "hash"
    buckets = 64

The columns are the dataset's, and never change in a row: a row whose scope column differs between two regions is in
another bucket there, so a sweep of either bucket reports it as missing in one of them. Regions that are compared by a
scope declare it alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

from pydantic import Field, model_validator

from paritree.config.mistakes import Fault
from paritree.config.settings import Part
from paritree.config.toml import near
from paritree.core.errors import ConfigError
from paritree.core.profile import Profile
from paritree.core.scope import HASH_BUCKETS_MAX, Scope

SCOPE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")


class ScopeConfig(Part):
    """One scope of one dataset."""

    kind: Literal["value", "hash", "year", "month", "day"]
    """By the columns' values, by a hash of them, or by the year, month or day (UTC) of one."""
    column: str = ""
    """The column, where it is one."""
    columns: tuple[str, ...] = ()
    """The columns, where they are several."""
    buckets: int = Field(default=0, ge=0, le=HASH_BUCKETS_MAX)
    """Buckets of a hash."""

    @model_validator(mode="after")
    def _one(self) -> ScopeConfig:
        if bool(self.column) == bool(self.columns):
            raise Fault("needs either column or columns", 'write column = "<column of the dataset>"')
        return self


ScopesConfig = Mapping[str, Mapping[str, ScopeConfig]]
"""Dataset -> name -> scope."""


def scopes_of(declared: ScopesConfig, profiles: Mapping[str, Profile], file: str) -> dict[str, dict[str, Scope]]:
    """The scopes by dataset and name. Raises ConfigError for a dataset, column or kind that cannot be."""
    found: dict[str, dict[str, Scope]] = {}
    for dataset, scopes in declared.items():
        where = f"{file}: scopes.{dataset}"
        if dataset not in profiles:
            raise ConfigError(f"{where}: this region has no dataset '{dataset}'", next_step=near(dataset, profiles))
        for name, said in scopes.items():
            if not SCOPE_NAME.match(name):
                raise ConfigError(f"{where}: '{name}' has more than letters, digits, '.', '_' and '-' (at most 63)")
            scope = Scope(name, said.kind, said.columns or (said.column,), said.buckets)
            scope.check(profiles[dataset], f"{where}.{name}")
            found.setdefault(dataset, {})[name] = scope
    return found
