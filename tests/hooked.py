"""The command line with a hook: before a message of some kind leaves, a test is asked, which may let a fault strike it.

Run as a program: ``python hooked.py SETTINGS ARGUMENTS…``. SETTINGS is JSON: ``port`` of the test, ``side`` ("agent" or
"coordinator"), ``limits`` that replace those of ``paritree.core.limits``, ``pause_s`` between the coordinator's tries,
``tree_rows``: tables of so many rows are compared by sums, which at that size is never the cheapest way.
"""

from __future__ import annotations

import functools
import json
import socket
import sys
import warnings
from typing import Any


def ask(connection: socket.socket, kind: str) -> None:
    """Tell the test that a message of this kind is about to leave, and wait until it has heard."""
    connection.sendall(kind.encode() + b"\n")
    while (answer := connection.recv(1)) != b"\n":
        if not answer:
            return  # the test has ended


def hook(settings: dict[str, Any]) -> None:
    from paritree.core import limits

    for name, value in settings["limits"].items():
        if not hasattr(limits, name):
            raise AttributeError(name)
        setattr(limits, name, value)
    from paritree.core import descent, planner
    from paritree.wire import codec

    connection = socket.create_connection(("127.0.0.1", settings["port"]))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    name = "encode_from_agent" if settings["side"] == "agent" else "encode_to_agent"
    encode = getattr(codec, name)

    def hooked(message: Any) -> bytes:
        data: bytes = encode(message)
        ask(connection, type(getattr(message, "body", message)).__name__)
        return data

    setattr(codec, name, hooked)
    choose = descent.plan

    def plan(differences: float, at_most: float, rows: Any, *rest: Any, **options: Any) -> planner.Plan:
        if max(rows) == settings["tree_rows"]:
            return planner.Plan(planner.Form.TREE)
        return choose(differences, at_most, rows, *rest, **options)

    descent.plan = plan
    from coordinator import serve

    serve.RetryPolicy = functools.partial(serve.RetryPolicy, pause_s=settings["pause_s"])


if __name__ == "__main__":
    warnings.simplefilter("error")
    hook(json.loads(sys.argv.pop(1)))
    from paritree.cli.main import main

    main()
