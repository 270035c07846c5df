"""A real PostgreSQL server for tests and benches: its own cluster in a temporary directory, on a free loopback port.

``with PostgresqlServer() as server: server.url("app")``, or ``python tests/servers/postgresql.py`` to have one to play
with until Ctrl-C. The server refuses to run as root, so it runs as ``postgres`` then, else as the caller. It is stopped
by the process id that was started, and by the kernel when the starting process dies.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql

HOST = "127.0.0.1"
START_S_MAX = 60.0
SETTINGS: Mapping[str, str] = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_connections": "100",
    "shared_buffers": "128MB",
    # A test's data need not survive a power cut.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "track_commit_timestamp": "on",
    "timezone": "UTC",
    "log_min_messages": "warning",
}


def binaries() -> Path:
    """The directory of initdb and postgres: Debian's newest version, else wherever PATH has them."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if versions:
        return versions[-1].parent
    found = shutil.which("initdb")
    if found is None:
        raise RuntimeError("no PostgreSQL server found: apt-get install postgresql")
    return Path(found).resolve().parent


class PostgresqlServer:
    """One cluster; superuser ``postgres`` with trust on loopback, database encoding UTF8, locale C.UTF-8.

    ``settings`` are added to (or replace) :data:`SETTINGS`. ``hba`` replaces the host-based authentication file.
    """

    def __init__(self, settings: Mapping[str, str] | None = None, hba: str | None = None) -> None:
        self.settings = {**SETTINGS, **(settings or {})}
        self.hba = hba
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @cached_property
    def directory(self) -> Path:
        """The temporary directory: ``data`` (the cluster) and ``log``."""
        from servers.prefixes import give

        path = Path(tempfile.mkdtemp(prefix="paritree-postgresql-"))
        give(path)
        return path

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Make the cluster and start the server; returns when it accepts connections."""
        data = self.directory / "data"
        command = [str(binaries() / "initdb"), "-D", str(data), "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8"]
        self._run([*command, "-A", "trust", "--no-sync"])
        if self.hba is not None:
            (data / "pg_hba.conf").write_text(self.hba)
        self.resume()

    def start_as_standby_of(self, primary: PostgresqlServer) -> None:
        """Copy another server's cluster and start as its hot standby (streaming)."""
        command = [str(binaries() / "pg_basebackup"), "-D", str(self.directory / "data"), "-d", primary.url()]
        self._run([*command, "-R", "--checkpoint=fast", "--no-sync"])
        self.resume()

    def _run(self, command: list[str]) -> None:
        from servers.prefixes import as_owner

        subprocess.run([*as_owner(), *command], check=True, cwd=self.directory, stdout=subprocess.DEVNULL)

    def resume(self) -> None:
        """Start the server on its cluster, on a new port the first time and on the same one later."""
        from servers.ports import free_port
        from servers.prefixes import as_owner, with_parent

        self.port = self.port or free_port()
        prefix = (*as_owner(), *with_parent(signal.SIGINT))  # in this order: a change of user clears the request
        options = [f"-c{name}={value}" for name, value in {**self.settings, "port": str(self.port)}.items()]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*prefix, binaries() / "postgres", "-D", self.directory / "data", *options],
                cwd=self.directory,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_S_MAX
        while True:
            try:
                with psycopg.connect(self.url(), connect_timeout=2):
                    return
            except psycopg.OperationalError as error:
                code = None if self._process is None else self._process.poll()
                if code is not None or time.monotonic() > deadline:
                    log = (self.directory / "log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"PostgreSQL did not start (it ended with {code}): {error}\n{log}") from error
                time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server but keep its cluster. SIGINT is a fast shutdown, SIGQUIT a crash. Idempotent."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(timeout=30)

    def remove(self) -> None:
        """Stop the server and delete its directory."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """A connection URL for libpq and for paritree."""
        return f"postgresql://{user}@{HOST}:{self.port}/{database}"

    def connect(self, database: str = "postgres", user: str = "postgres") -> psycopg.Connection:
        """A psycopg connection in autocommit mode."""
        return psycopg.connect(self.url(database, user), autocommit=True)

    def create_database(self, name: str, *, encoding: str = "UTF8", locale: str = "C.UTF-8") -> str:
        """Create an empty database (an older one of that name is dropped) and return its URL."""
        with self.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE {}")
            connection.execute(create.format(sql.Identifier(name), sql.Literal(encoding), sql.Literal(locale)))
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop the database, whoever is connected, with its replication slots: for those the server keeps its log."""
        with self.connect(name) as connection:
            connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE database = current_database()"
            )
        with self.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def cpu_s(self) -> float:
        """CPU seconds (user and system) of all processes of the cluster so far, ended backends included."""
        tick = os.sysconf("SC_CLK_TCK")
        total = 0
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = entry.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            # Fields after the name: state, ppid, ..., utime, stime, cutime, cstime at 11 to 14.
            if int(fields[1]) == self.pid or entry.parent.name == str(self.pid):
                total += sum(map(int, fields[11:15]))
        return total / tick

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def main() -> None:
    """Run a server until interrupted and say where it is."""
    with PostgresqlServer() as server:
        print(server.url(), flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            sys.exit(130)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])
    main()
