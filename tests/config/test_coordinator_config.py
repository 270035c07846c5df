"""The coordinator's file and the operator's client."""

from __future__ import annotations

from pathlib import Path

import pytest

from paritree.config import coordinator
from paritree.config.coordinator import load_client, load_coordinator
from paritree.core.errors import ConfigError

FILE = """
listen = "0.0.0.0:7443"
datasets = "datasets.toml"
cert = "coordinator.pem"
key = "coordinator.key"
ca = "ca.pem"

[client]
address = "coordinator:7443"
cert = "operator.pem"
key = "operator.key"
ca = "ca.pem"
"""
NO_FLAGS: dict[str, str | None] = {"address": None, "cert": None, "key": None, "ca": None}


def written(folder: Path, text: str = FILE) -> Path:
    path = folder / "coordinator.toml"
    path.write_text(text)
    return path


def test_the_example_in_the_documentation_is_a_configuration(tmp_path: Path) -> None:
    example = (coordinator.__doc__ or "").split("::\n", 1)[1].split("\nVariables", 1)[0]
    path = written(tmp_path, "\n".join(line[4:] for line in example.splitlines()))
    assert load_coordinator(path).trust_domain == "example.org"
    assert load_client(path, NO_FLAGS).address == "coordinator.example.org:7443"


def test_defaults_and_paths(tmp_path: Path) -> None:
    config = load_coordinator(written(tmp_path))
    assert config.cert == tmp_path / "coordinator.pem"
    assert config.store_url == f"sqlite:///{tmp_path}/coordinator.db"
    assert config.exchange_timeout_s == 60.0
    assert config.trust_domain == ""


@pytest.mark.parametrize(
    ("url", "resolved"),
    [
        ("sqlite:///some/state.db", "sqlite:///{folder}/some/state.db"),
        ("sqlite:////var/state.db", "sqlite:////var/state.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite://", "sqlite://"),
        ("postgresql://paritree@db/state", "postgresql://paritree@db/state"),
    ],
)
def test_a_relative_store_is_beside_the_file(tmp_path: Path, url: str, resolved: str) -> None:
    config = load_coordinator(written(tmp_path, FILE.replace("[client]", f'[store]\nurl = "{url}"\n[client]')))
    assert config.store_url == resolved.format(folder=tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('ca = "ca.pem"\n\n[client]', "[client]", "coordinator.toml: 'ca' is missing"),
        ("0.0.0.0:7443", "7443", "coordinator.toml: listen: '7443' is not host:port"),
        ("[client]", "[stor]\n[client]", "coordinator.toml: stor: unknown key"),
        ("[client]", "[store]\nurl = 5\n[client]", "coordinator.toml: store.url: input should be a valid string"),
        ("[client]", '[store]\npassword = "hush"\n[client]', "store.password: a secret is not written here"),
        ("listen", "exchange_timeout_s = 0\nlisten", "exchange_timeout_s: input should be greater than 0"),
        ("listen", "exchange_timeout_s = nan\nlisten", "exchange_timeout_s: input should be"),
    ],
)
def test_a_mistake_names_file_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_coordinator(written(tmp_path, FILE.replace(old, new, 1)))
    assert message in caught.value.message
    assert "hush" not in str(caught.value)


def test_variables_override_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARITREE_COORDINATOR_STORE__URL", "postgresql://db/state")
    monkeypatch.setenv("PARITREE_COORDINATOR_LISTEN", "127.0.0.1:0")
    config = load_coordinator(written(tmp_path))
    assert (config.store_url, config.listen) == ("postgresql://db/state", "127.0.0.1:0")


def test_the_client_takes_flags_over_variables_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    assert load_client(path, NO_FLAGS).address == "coordinator:7443"
    assert load_client(path, NO_FLAGS).cert == tmp_path / "operator.pem"
    monkeypatch.setenv("PARITREE_CLIENT_ADDRESS", "variable:1")
    monkeypatch.setenv("PARITREE_CLIENT_CERT", "variable.pem")
    assert load_client(path, NO_FLAGS).address == "variable:1"
    assert load_client(path, NO_FLAGS).cert == tmp_path / "variable.pem"
    monkeypatch.chdir("/tmp")
    client = load_client(path, {**NO_FLAGS, "address": "flag:2", "cert": "flag.pem"})
    assert (client.address, client.cert) == ("flag:2", Path("/tmp/flag.pem"))


def test_a_client_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"'address' is missing") as caught:
        load_client(None, NO_FLAGS)
    assert "PARITREE_CLIENT_ADDRESS" in caught.value.next_step
    flags = {"address": "host:1", "cert": "/c.pem", "key": "/k.pem", "ca": "/ca.pem"}
    assert load_client(None, flags).key == Path("/k.pem")
    with pytest.raises(ConfigError, match=r"--address: 'host' is not host:port"):
        load_client(None, {**flags, "address": "host"})
    monkeypatch.setenv("PARITREE_CLIENT_ADRESS", "host:1")
    with pytest.raises(ConfigError, match=r"PARITREE_CLIENT_ADRESS overrides nothing"):
        load_client(None, flags)


def test_what_readme_shows_of_a_coordinators_file_is_understood(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    shown = next(block for block in readme.split("```toml\n")[1:] if block.startswith("[store]")).split("```", 1)[0]
    file = tmp_path / "coordinator.toml"
    files = "".join(f'{name} = "{name}.pem"\n' for name in ("cert", "key", "ca"))
    file.write_text(f'datasets = "datasets.toml"\n{files}{shown}')
    config = load_coordinator(file)
    assert (config.store.wait_s, config.store.lease_s) == (1e9, 15.0)
    assert config.region_rates["eu"].sweeps_max == 1
    assert config.rates.requests_per_s is None
