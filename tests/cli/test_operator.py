"""sweep, status and findings against a coordinator's real server, over TLS, as separate processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from operated import Operated, document, report_of, run_paritree

from paritree.core.errors import ConfigError
from paritree.core.limits import MESSAGE_BYTES_MAX
from paritree.wire.control import SweepProgress

FINDINGS: list[dict[str, Any]] = [
    {
        "key": {"id": 7, "name": "a\x1b[31mb"},
        "token": "AAAA",
        "kind": "different",
        "groups": [["eu"], ["us"]],
        "missing_in": [],
        "columns": ["name"],
    },
    {"key": None, "token": "BBBB", "kind": "missing", "groups": [["eu"]], "missing_in": ["us"], "columns": []},
    {"key": None, "token": None, "kind": "missing", "groups": [["eu"]], "missing_in": ["us"], "columns": []},
]


async def different(dataset: str, **_: Any) -> dict[str, Any]:
    report = report_of(dataset, "different", findings_total=3, findings=FINDINGS[:2])
    return {**report, "stored": {"findings": FINDINGS}}


def test_sweep_prints_the_report_and_nothing_else(operated: Operated) -> None:
    done = operated.paritree("sweep", "orders", "--json")
    assert done.returncode == 0, done.stderr
    report = document(done)
    assert report == {**report_of("orders"), "sweep_id": "sweep-1"}
    (asked,) = operated.asked
    assert (asked["dataset"], asked["regions"], asked["purpose"], asked["lag_max_s"]) == (
        "orders",
        ("eu", "us"),
        "",
        None,
    )


def test_flags_reach_the_sweep(operated: Operated) -> None:
    flags = ["--purpose", "audit 7", "--lag-max", "0.5", "--limit", "9", "--region", "us", "--region", "eu"]
    assert operated.paritree("sweep", "orders", *flags).returncode == 0
    (asked,) = operated.asked
    assert (asked["purpose"], asked["lag_max_s"], asked["limit"], asked["regions"]) == ("audit 7", 0.5, 9, ("eu", "us"))


@pytest.mark.parametrize(
    ("verdict", "code"), [("equal", 0), ("different", 1), ("unknown", 3), ("unsettled", 3), ("of a newer version", 3)]
)
def test_the_exit_code_is_the_verdict(operated: Operated, verdict: str, code: int) -> None:
    async def script(dataset: str, **_: Any) -> dict[str, Any]:
        return report_of(dataset, verdict)

    operated.script = script
    done = operated.paritree("sweep", "orders")
    assert done.returncode == code
    assert done.stdout.startswith(f"orders: {verdict}")


def test_several_datasets_give_an_array_and_the_worst_code(operated: Operated) -> None:
    async def script(dataset: str, **_: Any) -> dict[str, Any]:
        if dataset == "users":
            raise ConfigError("users is broken", next_step="mend it")
        return await different(dataset)

    operated.script = script
    done = operated.paritree("sweep", "--all", "--json")
    assert done.returncode == 1
    orders, users = document(done)
    assert (orders["dataset"], orders["verdict"]) == ("orders", "different")
    assert (users["dataset"], users["verdict"], users["report"]) == ("users", "unknown", 1)
    assert "users is broken" in users["verdicts"][0]["reason"]
    assert "error: users: users is broken" in done.stderr
    assert operated.paritree("sweep", "users", "--json").returncode == 2
    alone = operated.paritree("sweep", "orders", "users", "--json", "--region", "eu")
    assert alone.returncode == 3


def test_unknown_names_are_refused_before_any_sweep(operated: Operated) -> None:
    for arguments, message in (
        (["orders", "usrs"], "the coordinator has no dataset 'usrs'"),
        (["orders", "--region", "eux", "--region", "us"], "--region: dataset orders has no region 'eux'"),
    ):
        done = operated.paritree("sweep", *arguments, "--json")
        assert done.returncode == 2
        error = document(done)["error"]
        assert message in error["message"]
        assert error["exit_code"] == 2
        assert message in done.stderr
    assert operated.asked == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["sweep"],
        ["sweep", "--all", "orders"],
        ["sweep", "--all", "--job-id", "x"],
        ["sweep", "--all", "--scope", "month", "--bucket", "AAAAAAAA"],
        ["sweep", "orders", "users", "--scope", "month", "--bucket", "AAAAAAAA"],
        ["sweep", "orders", "--scope", "month", "--bucket", "May"],
        ["findings"],
    ],
)
def test_flags_that_do_not_go_together(arguments: list[str], tmp_path: Path) -> None:
    done = run_paritree(*arguments, "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert document(done)["error"]["exit_code"] == 2


def test_a_job_is_swept_once(operated: Operated) -> None:
    operated.script = different
    first = operated.paritree("sweep", "orders", "--job-id", "nightly", "--json")
    second = operated.paritree("sweep", "orders", "--job-id", "nightly", "--json", "--region", "us", "--region", "eu")
    assert first.stdout == second.stdout
    assert (first.returncode, second.returncode) == (1, 1)
    assert len(operated.asked) == 1


def test_findings_and_status(operated: Operated) -> None:
    operated.script = different
    assert operated.paritree("sweep", "orders").returncode == 1
    page = document(operated.paritree("findings", "orders", "--limit", "1", "--offset", "1", "--json"))
    assert (page["findings_total"], page["findings"], page["sweep_id"]) == (3, FINDINGS[1:2], "sweep-1")
    lines = operated.paritree("findings", "--sweep", "sweep-1").stdout
    assert "orders: different, 1 to 3 of 3 findings (sweep sweep-1)" in lines
    assert "\x1b" not in lines
    assert "(withheld)" in lines
    status = document(operated.paritree("status", "--json"))
    assert [one["last_sweep"] and one["last_sweep"]["verdict"] for one in status["datasets"]] == ["different", None]
    shown = operated.paritree("status").stdout
    assert "eu-1" in shown
    assert "never" in shown
    assert operated.paritree("status", "ordrs").returncode == 2
    assert operated.paritree("findings", "users").returncode == 2


def test_a_report_larger_than_a_message(operated: Operated) -> None:
    many = [{**FINDINGS[1], "token": "ключ" * 20 + str(n)} for n in range(5_000)]

    async def large(dataset: str, **_: Any) -> dict[str, Any]:
        report = report_of(dataset, "different", findings_total=len(many), findings=many)
        return {**report, "stored": {"findings": many}}

    operated.script = large
    done = operated.paritree("sweep", "orders", "--limit", "5000", "--json")
    assert done.returncode == 1
    assert len(done.stdout.encode()) > MESSAGE_BYTES_MAX
    assert document(done)["findings"] == many
    page = document(operated.paritree("findings", "orders", "--limit", "5000", "--json"))
    assert page["findings"] == many


def test_progress_is_plain_lines_on_stderr(operated: Operated) -> None:
    async def slow(progress: Any, **_: Any) -> dict[str, Any]:
        for done in range(4):
            progress(SweepProgress("eu", "scan", done, 3, done * 1000))
            await asyncio.sleep(0.15)
        return report_of("orders")

    operated.script = slow
    done = operated.paritree("sweep", "orders", "--json")
    assert "eu: scan 3/3 shards, 3,000 rows" in done.stderr
    assert "\x1b" not in done.stderr
    document(done)


def test_progress_on_a_terminal_is_a_bar_and_stdout_stays_json(operated: Operated) -> None:
    async def slow(progress: Any, **_: Any) -> dict[str, Any]:
        progress(SweepProgress("eu [b]", "scan", 1, 3, 1000))
        await asyncio.sleep(0.5)
        return report_of("orders")

    operated.script = slow
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "paritree.cli.main", "sweep", "orders", "--json", *operated.flags]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    parts: list[bytes] = []

    def read() -> None:  # a terminal takes 4,096 bytes that nobody reads
        with contextlib.suppress(OSError):  # which is its end
            while part := os.read(ours, 1 << 16):
                parts.append(part)

    reading = threading.Thread(target=read)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment) as process:
        os.close(theirs)
        reading.start()
        out, _ = process.communicate(timeout=30)
    reading.join()
    shown = b"".join(parts).decode()
    os.close(ours)
    assert process.returncode == 0
    assert json.loads(out)["verdict"] == "equal"
    assert "eu [b]" in shown
    assert "scan 1/3 shards, 1,000 rows" in shown
    assert "\x1b[" in shown


def test_an_error_of_the_sweep_arrives_whole(operated: Operated) -> None:
    async def failing(**_: Any) -> dict[str, Any]:
        raise ConfigError("column 'ä' is absent", next_step="map it")

    operated.script = failing
    done = operated.paritree("sweep", "orders", "--json")
    assert done.returncode == 2
    assert document(done)["error"] == {"message": "column 'ä' is absent", "next_step": "map it", "exit_code": 2}


def test_an_internal_error_of_the_coordinator_is_not_a_verdict(operated: Operated) -> None:
    async def broken(**_: Any) -> dict[str, Any]:
        raise ZeroDivisionError("secret")

    operated.script = broken
    done = operated.paritree("sweep", "orders")
    assert done.returncode == 70
    assert "please report" in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


def test_a_coordinator_that_cannot_be_reached(operated: Operated) -> None:
    flags = ["--address=127.0.0.1:1", *operated.flags[1:]]
    for command in (["sweep", "orders"], ["status"], ["findings", "orders"]):
        done = operated.paritree(*command, "--json", flags=flags)
        assert done.returncode == 3
        assert "the coordinator at 127.0.0.1:1 cannot be reached" in document(done)["error"]["message"]
        assert "Traceback" not in done.stderr


def test_certificates_that_are_refused(operated: Operated, tmp_path: Path) -> None:
    agent = operated.folder / "agent-eu-a1"
    flags = [operated.flags[0], f"--cert={agent}.pem", f"--key={agent}.key", operated.flags[3]]
    done = operated.paritree("status", flags=flags)
    assert done.returncode == 2
    assert "agent-eu-a1.pem" in done.stderr
    missing = [*operated.flags[:1], f"--cert={tmp_path}/none.pem", *operated.flags[2:]]
    done = operated.paritree("status", flags=missing)
    assert done.returncode == 2
    assert "none.pem" in done.stderr


def test_the_client_is_read_from_a_file_and_the_environment(operated: Operated, tmp_path: Path) -> None:
    certificate = operated.folder / "operator-ops"
    (tmp_path / "paritree.toml").write_text(
        f'[client]\naddress = "127.0.0.1:1"\ncert = "{certificate}.pem"\nkey = "{certificate}.key"\n'
        f'ca = "{operated.folder}/ca.pem"\n'
    )
    assert run_paritree("status", cwd=tmp_path).returncode == 3
    right = {"PARITREE_CLIENT_ADDRESS": f"127.0.0.1:{operated.port}"}
    assert run_paritree("status", cwd=tmp_path, env=right).returncode == 0
    elsewhere = {**right, "PARITREE_CLIENT_FILE": str(tmp_path / "paritree.toml")}
    assert run_paritree("status", cwd=Path("/"), env=elsewhere).returncode == 0


def test_interrupting_the_command_leaves_the_sweep(operated: Operated) -> None:
    go = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def slow(dataset: str, **_: Any) -> dict[str, Any]:
        loops.append(asyncio.get_running_loop())
        await go.wait()
        return report_of(dataset)

    operated.script = slow
    command = [sys.executable, "-m", "paritree.cli.main", "sweep", "orders", "--json", *operated.flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not loops and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "sweep sweep-1 goes on at the coordinator" in err
    assert "Traceback" not in err
    assert '"exit_code": 130' in out
    loops[0].call_soon_threadsafe(go.set)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        last = document(operated.paritree("status", "orders", "--json"))["datasets"][0]["last_sweep"]
        if last["state"] == "finished":
            break
    assert last["verdict"] == "equal"


def test_a_reader_that_goes_away_is_no_verdict(operated: Operated) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "paritree.cli.main", "sweep", "orders", *operated.flags]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=30, check=False)
    os.close(writing)
    assert done.returncode == 141
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
