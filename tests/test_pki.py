"""Certificates and the master key, through the library and through ``paritree pki``."""

from __future__ import annotations

import datetime as dt
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest_tls import TRUST_DOMAIN, make_pki, now, write_pair
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from paritree import certificate as certificates
from paritree.certificate import CLIENT, SERVER, Unfit
from paritree.core.errors import ConfigError
from paritree.core.spiffe import AgentName, OperatorName
from paritree.pki import Authority, read_certificates, read_master_key
from paritree.tls import Role, agent_name, load_tls


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create(TRUST_DOMAIN, now=now())


def loaded(content: bytes) -> x509.Certificate:
    return read_certificates(content, "test")[0]


def test_an_agents_certificate_names_one_agent_and_is_for_clients(authority: Authority) -> None:
    certificate = loaded(authority.agent("eu", "a1", now=now()).certificate)
    assert certificates.uri_names(certificate) == [f"spiffe://{TRUST_DOMAIN}/region/eu/agent/a1"]
    assert certificates.host_names(certificate) == []
    assert certificates.purposes(certificate) == [CLIENT]
    assert certificates.client_name(certificate) == AgentName(TRUST_DOMAIN, "eu", "a1")
    with pytest.raises(Unfit):
        certificates.require_server(certificate)


def test_an_operators_certificate_names_one_operator(authority: Authority) -> None:
    certificate = loaded(authority.operator("ops", now=now()).certificate)
    assert certificates.client_name(certificate) == OperatorName(TRUST_DOMAIN, "ops")
    assert certificate.not_valid_after_utc - now() < dt.timedelta(days=91)


def test_a_coordinators_certificate_has_hosts_and_is_for_servers(authority: Authority) -> None:
    certificate = loaded(authority.coordinator(["Parity.Example.org", "127.0.0.1", "::1"], now=now()).certificate)
    assert certificates.host_names(certificate) == ["parity.example.org", "127.0.0.1", "::1"]
    assert certificates.uri_names(certificate) == []
    assert certificates.purposes(certificate) == [SERVER]
    for host in ("parity.example.org", "PARITY.example.org.", "127.0.0.1", "::1", "0:0::1"):
        certificates.require_server(certificate, host)
    with pytest.raises(Unfit, match=r"not for example\.org"):
        certificates.require_server(certificate, "example.org")
    with pytest.raises(Unfit):
        certificates.client_name(certificate)


def test_keys_are_p256_and_leaves_sign_nothing(authority: Authority) -> None:
    root = loaded(authority.credential.certificate)
    leaf = loaded(authority.agent("eu", "a1", now=now()).certificate)
    for certificate in (root, leaf):
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert isinstance(key.curve, ec.SECP256R1)
    assert certificates.is_authority(root)
    assert not certificates.is_authority(leaf)
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value.path_length == 0
    assert certificates.issued_by(leaf, root)
    assert not certificates.issued_by(leaf, leaf)


def test_two_keys_are_never_the_same(authority: Authority) -> None:
    one, other = (authority.agent("eu", "a1", now=now()) for _ in range(2))
    assert one.key != other.key
    assert loaded(one.certificate).serial_number != loaded(other.certificate).serial_number
    assert "PRIVATE" not in repr(one)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "..", ".", "ä", "x" * 65, "a\n"])
def test_names_that_do_not_fit_a_uri_are_refused(authority: Authority, name: str) -> None:
    with pytest.raises(ConfigError, match="--region"):
        authority.agent(name, "a1", now=now())
    with pytest.raises(ConfigError, match="--name"):
        authority.operator(name, now=now())


@pytest.mark.parametrize("host", ["", "a b", "-x.org", "x_y", "a..b", "*", "https://x", "x:7443", "h" * 64 + "."])
def test_hosts_that_are_none_are_refused(authority: Authority, host: str) -> None:
    with pytest.raises(ConfigError, match="--dns"):
        authority.coordinator([host], now=now())


@pytest.mark.parametrize("domain", ["", "Upper.example", "a/b", "a b"])
def test_a_trust_domain_is_lower_case(domain: str) -> None:
    with pytest.raises(ConfigError, match="--trust-domain"):
        Authority.create(domain, now=now())


def test_a_leaf_is_no_authority(tmp_path: Path, authority: Authority) -> None:
    credential = authority.agent("eu", "a1", now=now())
    (tmp_path / "ca.pem").write_bytes(credential.certificate)
    (tmp_path / "ca.key").write_bytes(credential.key)
    (tmp_path / "ca.key").chmod(0o600)
    with pytest.raises(ConfigError, match="does not name one trust domain"):
        Authority.load(tmp_path)


# --- TLS files ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_pki(tmp_path)


def load(folder: Path, name: str, role: Role, **options: Any) -> Any:
    return load_tls(folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key", role=role, **options)


def test_fitting_files_are_read(folder: Path) -> None:
    assert agent_name(load(folder, "agent-eu-a1", Role.AGENT)).uri == f"spiffe://{TRUST_DOMAIN}/region/eu/agent/a1"
    load(folder, "coordinator", Role.COORDINATOR)
    tls = load(folder, "operator-ops", Role.OPERATOR)
    assert "PRIVATE" not in repr(tls)
    with pytest.raises(ConfigError, match="is not an agent"):
        agent_name(tls)


@pytest.mark.parametrize(
    ("name", "role", "reason"),
    [
        ("agent-eu-a1", Role.OPERATOR, "is not an operator"),
        ("operator-ops", Role.AGENT, "is not an agent"),
        ("coordinator", Role.AGENT, "no URI names"),
        ("agent-eu-a1", Role.COORDINATOR, "for clients, not for servers only"),
        ("ca", Role.AGENT, "neither that of an agent"),
    ],
)
def test_a_certificate_of_another_role_is_refused(folder: Path, name: str, role: Role, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        load(folder, name, role)
    assert str(folder / f"{name}.pem") in caught.value.message
    assert f"paritree pki {role}" in caught.value.next_step


def test_an_expired_certificate_is_refused_before_dialling(folder: Path) -> None:
    with pytest.raises(ConfigError, match="it expired on"):
        load(folder, "agent-eu-a1", Role.AGENT, now=now() + dt.timedelta(days=400))
    with pytest.raises(ConfigError, match="valid only from"):
        load(folder, "agent-eu-a1", Role.AGENT, now=now() - dt.timedelta(days=1))


def test_another_authoritys_certificate_is_refused(folder: Path) -> None:
    write_pair(folder, "stranger", Authority.create(TRUST_DOMAIN, now=now()).agent("eu", "a1", now=now()))
    with pytest.raises(ConfigError, match="was not issued by the authority in"):
        load(folder, "stranger", Role.AGENT)


def test_an_authority_file_may_hold_several(folder: Path) -> None:
    other = Authority.create(TRUST_DOMAIN, now=now())
    bundle = other.credential.certificate + (folder / "ca.pem").read_bytes()
    (folder / "ca.pem").write_bytes(bundle)
    load(folder, "agent-eu-a1", Role.AGENT)


UNUSABLE: dict[str, tuple[Any, str]] = {
    "no certificate": (lambda f: (f / "agent-eu-a1.pem").unlink(), r"cannot read .*agent-eu-a1\.pem \(No such file"),
    "no key": (lambda f: (f / "agent-eu-a1.key").unlink(), r"cannot read .*agent-eu-a1\.key \(No such file"),
    "no authority": (lambda f: (f / "ca.pem").unlink(), r"cannot read .*ca\.pem \(No such file"),
    "an empty certificate": (lambda f: (f / "agent-eu-a1.pem").write_bytes(b""), "not a PEM certificate"),
    "a binary certificate": (lambda f: (f / "agent-eu-a1.pem").write_bytes(b"\x30\x82"), "not a PEM certificate"),
    "half a certificate": (
        lambda f: (f / "agent-eu-a1.pem").write_bytes((f / "agent-eu-a1.pem").read_bytes()[:300]),
        "not a PEM certificate",
    ),
    "an empty key": (lambda f: (f / "agent-eu-a1.key").write_bytes(b""), "not an unencrypted PEM private key"),
    "a certificate for a key": (
        lambda f: (f / "agent-eu-a1.key").write_bytes((f / "agent-eu-a1.pem").read_bytes()),
        "not an unencrypted PEM private key",
    ),
    "another's key": (
        lambda f: (f / "agent-eu-a1.key").write_bytes((f / "agent-us-a1.key").read_bytes()),
        "does not belong to",
    ),
    "a key that the group can read": (lambda f: (f / "agent-eu-a1.key").chmod(0o640), r"others .* \(mode 0640\)"),
    "a key that all can read": (lambda f: (f / "agent-eu-a1.key").chmod(0o604), r"others .* \(mode 0604\)"),
    "a folder for a certificate": (
        lambda f: ((f / "agent-eu-a1.pem").unlink(), (f / "agent-eu-a1.pem").mkdir()),
        "Is a directory",
    ),
    "a folder for a key": (
        lambda f: ((f / "agent-eu-a1.key").unlink(), (f / "agent-eu-a1.key").mkdir(0o700)),
        "is not a file",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_files_are_named_with_the_fix(folder: Path, case: str) -> None:
    spoil, reason = UNUSABLE[case]
    spoil(folder)
    with pytest.raises(ConfigError, match=reason) as caught:
        load(folder, "agent-eu-a1", Role.AGENT)
    assert str(folder) in caught.value.message
    assert "BEGIN" not in str(caught.value)


# --- the command ----------------------------------------------------------------------------------------------------


def paritree(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paritree.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_makes_what_processes_accept(tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    assert paritree("pki", "ca", folder, "--trust-domain", TRUST_DOMAIN).returncode == 0
    assert paritree("pki", "agent", folder, "--region", "eu", "--name", "a1").returncode == 0
    assert paritree("pki", "coordinator", folder, "--dns", "localhost", "--dns", "::1").returncode == 0
    assert paritree("pki", "operator", folder, "--name", "ops").returncode == 0
    load(folder, "agent-eu-a1", Role.AGENT)
    load(folder, "coordinator", Role.COORDINATOR)
    load(folder, "operator-ops", Role.OPERATOR)
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(list(folder.iterdir())) == 8


def test_the_command_replaces_nothing_unless_told_to(tmp_path: Path) -> None:
    folder = make_pki(tmp_path)
    before = (folder / "agent-eu-a1.key").read_bytes()
    refused = paritree("pki", "agent", folder, "--region", "eu", "--name", "a1")
    assert refused.returncode == 2
    assert f"{folder / 'agent-eu-a1.pem'} exists" in refused.stderr
    assert "--force" in refused.stderr
    assert (folder / "agent-eu-a1.key").read_bytes() == before
    assert paritree("pki", "agent", folder, "--region", "eu", "--name", "a1", "--force").returncode == 0
    assert (folder / "agent-eu-a1.key").read_bytes() != before
    load(folder, "agent-eu-a1", Role.AGENT)


def test_the_command_makes_a_master_key_once(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "master.key"
    assert paritree("pki", "dataset-key", file).returncode == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    key = read_master_key(f"file:{file}")
    assert len(key) == 32
    again = paritree("pki", "dataset-key", file)
    assert again.returncode == 2
    assert "exists" in again.stderr
    assert read_master_key(f"file:{file}") == key
    assert "--force" not in paritree("pki", "dataset-key", "--help").stdout


def test_the_command_shows_names_and_expiry(tmp_path: Path) -> None:
    folder = make_pki(tmp_path)
    shown = paritree("pki", "show", folder / "agent-eu-a1.pem")
    assert shown.returncode == 0
    assert f"spiffe://{TRUST_DOMAIN}/region/eu/agent/a1" in shown.stdout
    assert "364 days left" in shown.stdout
    assert "PRIVATE" not in shown.stdout
    (one,) = json.loads(paritree("pki", "show", folder / "coordinator.pem", "--json").stdout)
    assert one["names"] == ["localhost", "127.0.0.1", "::1"]
    assert one["purpose"] == "for servers"
    assert one["expired"] is False
    old = Authority.load(folder).agent("eu", "old", now=now() - dt.timedelta(days=9), days=2)
    write_pair(folder, "old", old)
    assert "EXPIRED" in paritree("pki", "show", folder / "old.pem").stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["show", "no-such-file.pem"], "cannot read no-such-file.pem"),
        (["agent", "no-such-folder", "--region", "eu", "--name", "a"], "paritree pki ca no-such-folder"),
        (["agent", "{pki}", "--region", "e/u", "--name", "a"], "--region: 'e/u'"),
        (["coordinator", "{pki}"], "--dns"),
        (["operator", "{pki}", "--name", "x", "--days", "0"], "--days"),
        (["dataset-key", "{pki}/ca.pem/x"], "cannot make the folder"),
        (["dataset-key", "{pki}"], "exists"),
        (["dataset-key", "/proc/x"], "cannot write /proc/x"),
    ],
)
def test_mistakes_get_exit_code_2_and_no_traceback(pki_dir: Path, arguments: list[str], reason: str) -> None:
    done = paritree("pki", *(argument.replace("{pki}", str(pki_dir)) for argument in arguments))
    assert done.returncode == 2
    assert reason in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


# --- the master key -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "0" * 63, "0" * 65, "g" * 64, "0x" + "0" * 62, " " + "0" * 64, "0" * 64 + "\n\n", "٣" * 64]
)
def test_a_master_key_is_exactly_64_hex_digits(tmp_path: Path, text: str) -> None:
    file = tmp_path / "key"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        read_master_key("file:key", base=tmp_path, where="agent.toml: master_key")
    assert "agent.toml: master_key" in caught.value.message
    assert text.strip() == "" or text.strip() not in str(caught.value)


def test_a_master_key_may_be_written_in_either_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "PARITREE_TEST_KEY", "aB" * 32)
    assert read_master_key("env:PARITREE_TEST_KEY") == b"\xab" * 32
