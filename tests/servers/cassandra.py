"""A real Cassandra 5 on free loopback ports, started from its published jars. Needs Java 17 and Maven.

``python tests/servers/cassandra.py --fetch`` only fetches the jars; without ``--fetch`` a server runs until
interrupted. The jars go once into a cache directory outside of the repository.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from cassandra.cluster import Session

VERSION: Final = "5.0.5"
FETCH_S_MAX: Final = 900
START_S_MAX: Final = 180
"""Cassandra answers CQL after 9-25 s on two idle cores; busy ones take several times that."""
ANSWERS: Final = [f"{what}request" for what in ("", "read_", "range_", "write_", "counter_write_", "truncate_")]
"""What the server itself would give up after a few seconds."""
HEAP: Final = os.environ.get("PARITREE_CASSANDRA_HEAP", "768m")
POM: Final = f"""\
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>paritree.tests</groupId>
  <artifactId>cassandra-server</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.cassandra</groupId>
      <artifactId>cassandra-all</artifactId>
      <version>{VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""
LOGBACK: Final = """\
<configuration>
  <appender name="STDOUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%-5level %date{ISO8601} %logger{20} - %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="STDOUT"/></root>
</configuration>
"""
EXPORTS: Final = [
    "java.base/jdk.internal.misc",
    "java.base/jdk.internal.ref",
    "java.base/sun.nio.ch",
    "java.base/java.lang.ref",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.unsupported/sun.misc",
]
OPENS: Final = [
    "java.base/java.lang.module",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.util.jar",
    "jdk.management/com.sun.management.internal",
    "java.base/sun.nio.ch",
    "java.base/java.io",
    "java.base/java.nio",
    "java.base/java.util.concurrent",
    "java.base/java.util",
    "java.base/java.util.concurrent.atomic",
    "java.base/java.lang",
    "java.base/java.math",
    "java.base/java.lang.reflect",
    "java.base/java.net",
    "java.rmi/sun.rmi.transport.tcp",
]
PROPERTIES: Final = {
    "jdk.attach.allowAttachSelf": "true",
    "cassandra-foreground": "yes",
    "cassandra.ring_delay_ms": "2000",
    "cassandra.skip_wait_for_gossip_to_settle": "0",
    "cassandra.superuser_setup_delay_ms": "0",
    "cassandra.size_recorder_interval": "2",
    "cassandra.unsafesystem": "true",
}
"""Quick starts and DDL, and size estimates every two seconds (five minutes in production)."""


def cache_directory() -> Path:
    """Where the jars are kept: ``PARITREE_CACHE``, else the user's cache directory."""
    base = os.environ.get("PARITREE_CACHE") or os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    return Path(base) / ("" if "PARITREE_CACHE" in os.environ else "paritree") / f"cassandra-{VERSION}"


def fetch() -> Path:
    """The directory with the server's jars; fetched with Maven unless it is there. Safe for several processes."""
    jars = cache_directory()
    jars.parent.mkdir(parents=True, exist_ok=True)
    with open(jars.parent / f"{jars.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if jars.is_dir():
            return jars
        with tempfile.TemporaryDirectory(dir=jars.parent) as directory:
            work = Path(directory)
            (work / "pom.xml").write_text(POM)
            goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={work / 'jars'}"]
            command = ["mvn", "-q", "-B", "-ntp", "-f", str(work / "pom.xml"), *goal]
            subprocess.run(command, check=True, timeout=FETCH_S_MAX)
            (work / "jars").rename(jars)
    return jars


@dataclass
class CassandraServer:
    """One node. ``settings`` override cassandra.yaml; ``seed`` is ``host:storage_port`` of a ring to join."""

    cluster_name: str = "region-us"
    host: str = "127.0.0.1"
    seed: str = ""
    num_tokens: int = 16
    settings: Mapping[str, Any] = field(default_factory=dict)
    heap: str = HEAP
    port: int = 0
    storage_port: int = 0
    directory: Path = field(init=False)
    process: subprocess.Popen[bytes] | None = field(init=False, default=None)
    ready: bool = field(init=False, default=False)

    def launch(self) -> Self:
        """Start the daemon and return at once, so that several nodes can start side by side."""
        from servers.ports import free_ports
        from servers.prefixes import with_parent

        jars = fetch()
        ports = free_ports(self.host, 3)
        self.port, self.storage_port = self.port or ports[0], self.storage_port or ports[1]
        self.directory = Path(tempfile.mkdtemp(prefix="paritree-cassandra-"))
        (self.directory / "logback.xml").write_text(LOGBACK)
        (self.directory / "cassandra.yaml").write_text(
            json.dumps(self._configuration(ports[2]), indent=1)
        )  # JSON is YAML
        with open(self.directory / "server.log", "wb") as log:
            self.process = subprocess.Popen(
                [*with_parent(signal.SIGKILL), *self._command(jars)],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        return self

    def _configuration(self, ssl_storage_port: int) -> dict[str, Any]:
        data = self.directory / "data"
        seeds = self.seed or f"{self.host}:{self.storage_port}"
        return {
            "cluster_name": self.cluster_name,
            "num_tokens": self.num_tokens,
            "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
            "commitlog_sync": "periodic",
            "commitlog_sync_period": "10000ms",
            "data_file_directories": [str(data / "data")],
            **{f"{name}_directory": str(data / name) for name in ("commitlog", "hints", "saved_caches", "cdc_raw")},
            "listen_address": self.host,
            "rpc_address": self.host,
            "native_transport_port": self.port,
            "storage_port": self.storage_port,
            "ssl_storage_port": ssl_storage_port,
            "endpoint_snitch": "SimpleSnitch",
            "materialized_views_enabled": True,
            "auto_snapshot": False,
            "auto_bootstrap": False,
            # Test data is loaded in large batches over many partitions, which production would refuse.
            "batch_size_warn_threshold": "16MiB",
            "batch_size_fail_threshold": "64MiB",
            "unlogged_batch_across_partitions_warn_threshold": 100_000,
            # The machine may stop for longer than production would wait; tests of time-outs are about the client's.
            **{f"{what}_timeout": "60s" for what in ANSWERS},
            "concurrent_reads": 8,
            "concurrent_writes": 8,
            "seed_provider": [
                {
                    "class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
                    "parameters": [{"seeds": seeds}],
                }
            ],
            **self.settings,
        }

    def _command(self, jars: Path) -> list[str]:
        properties = {
            **PROPERTIES,
            "cassandra.config": f"file://{self.directory / 'cassandra.yaml'}",
            "cassandra.storagedir": str(self.directory / "data"),
            "java.io.tmpdir": str(self.directory),  # libraries that are unpacked there go with it
        }
        return [
            "java",
            f"-Xms{self.heap}",
            f"-Xmx{self.heap}",
            "-XX:+UseSerialGC",
            *(word for name in EXPORTS for word in ("--add-exports", f"{name}=ALL-UNNAMED")),
            *(word for name in OPENS for word in ("--add-opens", f"{name}=ALL-UNNAMED")),
            *(f"-D{name}={value}" for name, value in properties.items()),
            "-cp",
            f"{self.directory}:{jars}/*",
            "org.apache.cassandra.service.CassandraDaemon",
        ]

    def wait(self, **connect: Any) -> Self:
        """Wait until CQL is answered. ``connect`` goes to the driver (TLS, authentication)."""
        from cassandra.cluster import NoHostAvailable

        end = time.monotonic() + START_S_MAX
        while True:
            if self.process is None or self.process.poll() is not None:
                code = None if self.process is None else self.process.returncode
                raise RuntimeError(f"Cassandra ended with {code} while starting:\n{self.log()}")
            if time.monotonic() > end:
                raise RuntimeError(f"Cassandra did not answer within {START_S_MAX} s:\n{self.log()}")
            with contextlib.suppress(OSError, NoHostAvailable):
                socket.create_connection((self.host, self.port), timeout=1).close()
                with self.session(**connect) as session:
                    session.execute("SELECT release_version FROM system.local")
                    self.ready = True
                    return self
            time.sleep(0.3)

    def log(self) -> str:
        """The end of the server's log."""
        return (self.directory / "server.log").read_text(errors="replace")[-4000:]

    @property
    def url(self) -> str:
        """The connector's URL without a keyspace."""
        return f"cassandra://{self.host}:{self.port}"

    @contextlib.contextmanager
    def session(self, **connect: Any) -> Iterator[Session]:
        """A plain driver session to this node alone, for loading data."""
        from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
        from cassandra.io.libevreactor import LibevConnection
        from cassandra.policies import WhiteListRoundRobinPolicy

        profile = ExecutionProfile(load_balancing_policy=WhiteListRoundRobinPolicy([self.host]), request_timeout=60)
        cluster = Cluster(
            contact_points=[(self.host, self.port)],
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            connection_class=LibevConnection,
            protocol_version=5,
            connect_timeout=60,
            control_connection_timeout=60,
            **connect,
        )
        try:
            yield cluster.connect()
        finally:
            cluster.shutdown()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The node hangs meanwhile: connections stay open, nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.thaw()

    def thaw(self) -> None:
        """Let a frozen node go on."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop the daemon and delete its files. Idempotent."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()  # its data is thrown away: no reason to wait for an orderly drain
            process.wait()
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.launch().wait()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()


def settled(server: CassandraServer, nodes: int, wait_s: float = 90.0) -> None:
    """Wait until a node knows all nodes of its ring and they have one schema. Raises TimeoutError."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        with server.session() as session:
            known = [row.schema_version for row in session.execute("SELECT schema_version FROM system.local")]
            known += [row.schema_version for row in session.execute("SELECT schema_version FROM system.peers")]
        if len(known) == nodes and None not in known and len(set(known)) == 1:
            return
        time.sleep(0.5)
    raise TimeoutError(f"{server.url} does not know a ring of {nodes} nodes with one schema: {known}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fetch", action="store_true", help="only fetch the jars")
    parser.add_argument("--port", type=int, default=0, help="native port (default: a free one)")
    arguments = parser.parse_args()
    if arguments.fetch:
        print(fetch())
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt), CassandraServer(port=arguments.port) as server:
        print(f"{server.url} (stop with Ctrl-C)", flush=True)
        signal.pause()


if __name__ == "__main__":
    # Python puts this file's directory first, where "cassandra" would be this file instead of the driver.
    sys.path[0] = str(Path(__file__).parents[1])
    main()
