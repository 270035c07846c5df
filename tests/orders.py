"""The datasets file of tests with processes: one table, ``orders``, in the regions eu and us."""

from __future__ import annotations


def orders(lag_max_s: float = 0, **columns: str) -> str:
    """``columns`` have their logical types; ``id`` is the key."""
    lines = "\n".join(f'{name} = "{kind}"' for name, kind in columns.items())
    regions = "".join(
        f'[dataset.orders.regions.{name}]\nconnection = "main"\ntable = "orders"\n' for name in ("eu", "us")
    )
    head = f'[dataset.orders]\nkey = ["id"]\nlag_max_s = {lag_max_s:g}\n'
    return f"{head}[dataset.orders.columns]\n{lines}\n{regions}"
