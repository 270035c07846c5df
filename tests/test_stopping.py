"""What ends a process that serves, with the handlers that every command has from its start."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

SERVE = """
import asyncio
from paritree.cli import streams
from paritree.stopping import exit_code, signals
async def serve():
    stopped = asyncio.get_running_loop().create_future()
    with signals(stopped):
        print("serving", flush=True)
        return exit_code(await asyncio.wait_for(stopped, 20.0))
streams.prepare()
raise SystemExit(asyncio.run(serve()))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGINT, 130)])
def test_a_process_that_serves_ends(number: signal.Signals, code: int) -> None:
    with subprocess.Popen([sys.executable, "-c", SERVE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "serving\n"
        process.send_signal(number)
        assert process.wait(60.0) == code
