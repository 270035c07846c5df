"""An agent's file, its environment, and what it makes of the datasets file."""

from __future__ import annotations

from pathlib import Path

import pytest

from paritree.config.agent import AgentConfig, held, load_agent
from paritree.core.errors import ConfigError

AGENT = """
region = "eu"
name = "eu-1"
datasets = "datasets.toml"
master_key = "file:master.key"
spool = "spool"

[coordinator]
address = "coordinator.example.org:7443"
cert = "agent.pem"
key = "agent.key"
ca = "/etc/paritree/ca.pem"

[connections.main]
url = "postgresql://reader@db.internal/shop"
password = "env:PGPASSWORD"
"""
DATASETS = """
[dataset.orders]
key = ["id"]
columns = { id = "int" }
[dataset.orders.regions.eu]
connection = "main"
table = "orders"
[dataset.orders.regions.us]
[dataset.users]
key = ["id"]
columns = { id = "int" }
[dataset.users.regions.us]
"""


def load(folder: Path, text: str = AGENT) -> AgentConfig:
    (folder / "agent.toml").write_text(text)
    return load_agent(folder / "agent.toml")


def refused(folder: Path, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return caught.value


def test_defaults_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    config = load(tmp_path)
    assert config.spool == tmp_path / "spool"
    assert config.coordinator.cert == tmp_path / "agent.pem"
    assert config.coordinator.ca == Path("/etc/paritree/ca.pem")
    assert (config.policy.disclosure, config.policy.sealed_keys, config.policy.purposes) == ("tokens", False, ())
    assert config.executor.kind == "threads"
    assert config.executor.workers >= 1
    assert config.statement_timeout_s is None


def test_the_example_in_the_documentation_is_a_configuration(tmp_path: Path) -> None:
    from paritree.config import agent

    example = (agent.__doc__ or "").split("::\n", 1)[1].split("\nVariables", 1)[0]
    config = load(tmp_path, "\n".join(line[4:] for line in example.splitlines()))
    assert (config.region, config.executor.workers) == ("eu", 4)


def test_a_policy_may_be_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(
        'disclosure = "keys"\npurposes = ["audit"]\nkeys_max = 5\nsealed_keys = true\n'
    )
    policy = load(tmp_path, 'policy = "policy.toml"\n' + AGENT).policy
    assert (policy.disclosure, policy.purposes, policy.keys_max, policy.sealed_keys) == ("keys", ("audit",), 5, True)
    (tmp_path / "policy.toml").write_text('disclosur = "nothing"\n')
    error = refused(tmp_path, 'policy = "policy.toml"\n' + AGENT)
    assert str(tmp_path / "policy.toml") in error.message
    assert "'disclosure'" in error.next_step
    assert "gone.toml: cannot be read" in refused(tmp_path, 'policy = "gone.toml"\n' + AGENT).message


def test_a_variable_lays_over_the_policy_file_and_does_not_loosen_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policy.toml").write_text('disclosure = "nothing"\n')
    monkeypatch.setenv("PARITREE_AGENT_POLICY__KEYS_MAX", "7")
    policy = load(tmp_path, 'policy = "policy.toml"\n' + AGENT).policy
    assert (policy.disclosure, policy.keys_max) == ("nothing", 7)


def test_variables_override_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARITREE_AGENT_COORDINATOR__ADDRESS", "other:1")
    monkeypatch.setenv("PARITREE_AGENT_CONNECTIONS__MAIN__URL", "sqlite:///x.db")
    monkeypatch.setenv("PARITREE_AGENT_EXECUTOR__WORKERS", "3")
    config = load(tmp_path, 'executor = "serial"\n' + AGENT)
    assert config.coordinator.address == "other:1"
    assert config.coordinator.key == tmp_path / "agent.key"
    assert config.connections["main"].url == "sqlite:///x.db"
    assert (config.executor.kind, config.executor.workers) == ("serial", 3)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("PARITREE_AGENT_REGIN", "eu", "PARITREE_AGENT_REGIN overrides nothing"),
        ("PARITREE_AGENT_REGION", "e/u", "environment: PARITREE_AGENT_REGION: 'e/u' cannot stand"),
        ("PARITREE_AGENT_SHARD_ROWS", "many", "environment: PARITREE_AGENT_SHARD_ROWS: input should be a valid int"),
        ("PARITREE_AGENT_COORDINATOR__ADRESS", "x:1", "environment: PARITREE_AGENT_COORDINATOR__ADRESS: unknown key"),
        ("PARITREE_AGENT_CONNECTIONS", "{", "environment: "),
    ],
)
def test_a_wrong_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert message in refused(tmp_path, AGENT).message


@pytest.mark.parametrize(
    ("old", "new", "message", "fix"),
    [
        ('region = "eu"', "", "agent.toml: 'region' is missing", "PARITREE_AGENT_REGION"),
        ('region = "eu"', "region = 5", "agent.toml: region: input should be a valid string", ""),
        ('region = "eu"', 'region = "e u"', "agent.toml: region: 'e u' cannot stand in a certificate", "letters"),
        ('region = "eu"', 'regoin = "eu"', "agent.toml: 'region' is missing", ""),
        ('name = "eu-1"', 'name = "eu-1"\nshard_row = 5', "agent.toml: shard_row: unknown key", "'shard_rows'"),
        ('name = "eu-1"', 'name = "eu-1"\nshard_rows = 0', "agent.toml: shard_rows: input should be greater", ""),
        ('name = "eu-1"', 'name = "eu-1"\nexecutor = "dusk"', "agent.toml: executor.kind: input should be", ""),
        ('address = "coordinator.example.org:7443"', "", "agent.toml: coordinator: 'address' is missing", "ADDRESS"),
        ("example.org:7443", "example.org", "coordinator.address: 'coordinator.example.org' is not host:port", "7443"),
        ("example.org:7443", "example.org:99999", "is not host:port", ""),
        ('cert = "agent.pem"', 'cret = "agent.pem"', "coordinator: 'cert' is missing", ""),
        ('ca = "/etc/paritree/ca.pem"', 'ca = "x"\ncea = "y"', "coordinator.cea: unknown key", "'ca'"),
        ("reader@", "reader:hush@", "connections.main.url: the URL has a password inside", "env:NAME"),
        ("/shop", "/shop?password=hush", "connections.main.url: the URL has a password inside", "env:NAME"),
        ("postgresql://reader@db.internal/shop", "orders.db", "connections.main.url: the URL has no scheme", ""),
        ("postgresql://reader@db.internal/shop", "postgresql://[::1/x", "main.url: the URL cannot be read", ""),
        ("reader@", "reader:3/hush@", "connections.main.url: the URL cannot be read", "%40"),
        ('"env:PGPASSWORD"', '"hush"', "connections.main.password: a secret is not written here", "file:"),
        ('"file:master.key"', '"hush"', "master_key: a secret is not written here", "env:"),
        ('"env:PGPASSWORD"', '"env:PGPASSWORD"\noptins = {}', "connections.main.optins: unknown key", "'options'"),
        ('"env:PGPASSWORD"', '"env:PGPASSWORD"\noptions = { a = 1 }', "connections.main.options.a: input", ""),
        ('"env:PGPASSWORD"', '"env:PGPASSWORD"\nssh = "bastion"', "main.ssh: it is not user@host", "user@bastion"),
        ('"env:PGPASSWORD"', '"env:PGPASSWORD"\nssh = "me:hush@b"', "main.ssh: it is not user@host", "bastion"),
        ('"env:PGPASSWORD"', '"env:PGPASSWORD"\nssh_key = "id"', "connections.main: ssh_key without ssh", "add ssh"),
        ('cert = "agent.pem"', 'cert = "a"\nssh_known_hosts = "k"', "coordinator: ssh_known_hosts without", "add ssh"),
        (
            '"env:PGPASSWORD"',
            '"env:PGPASSWORD"\nssh = "me@b"\nssh_key = "id"\nssh_key_passphrase = "hush"',
            "connections.main.ssh_key_passphrase: a secret is not written here",
            "file:",
        ),
    ],
)
def test_a_mistake_names_file_key_and_fix(tmp_path: Path, old: str, new: str, message: str, fix: str) -> None:
    assert old in AGENT
    error = refused(tmp_path, AGENT.replace(old, new, 1))
    assert message in error.message
    assert fix in error.next_step
    assert "hush" not in str(error)


@pytest.mark.parametrize(
    ("executor", "message"),
    [
        ('kind = "threads"\nscheduler_address = "tls://h:1"', "scheduler_address is for kind = 'dask'"),
        ('kind = "dask"\nscheduler_address = "tcp://h:1"', "over TLS only"),
        ('kind = "dask"\nscheduler_address = "tls://h:1"\nca = "a"', "needs ca, cert and key"),
    ],
)
def test_a_scheduler_needs_tls(tmp_path: Path, executor: str, message: str) -> None:
    error = refused(tmp_path, f"{AGENT}\n[executor]\n{executor}\n")
    assert "agent.toml: executor: " in error.message
    assert message in error.message


def test_a_bastion_for_a_source_and_for_the_coordinator(tmp_path: Path) -> None:
    ssh = 'ssh = "me@bastion:2222"\nssh_known_hosts = "known_hosts"\nssh_key = "id_ed25519"'
    config = load(tmp_path, AGENT.replace('cert = "agent.pem"', f'cert = "agent.pem"\n{ssh}') + ssh)
    expected = {
        "ssh": "me@bastion:2222",
        "ssh_known_hosts": str(tmp_path / "known_hosts"),
        "ssh_key": str(tmp_path / "id_ed25519"),
    }
    assert config.coordinator.ssh_options() == config.connections["main"].ssh_options() == expected
    assert load(tmp_path).coordinator.ssh_options() == {}


def test_what_the_region_holds(tmp_path: Path) -> None:
    (tmp_path / "datasets.toml").write_text(DATASETS)
    holds = held(load(tmp_path))
    assert list(holds) == ["orders"]
    assert holds["orders"].binding.table == "orders"
    assert holds["orders"].connection.url == "postgresql://reader@db.internal/shop"


def test_what_the_region_cannot_hold(tmp_path: Path) -> None:
    datasets = tmp_path / "datasets.toml"
    datasets.write_text(DATASETS.replace('"main"', '"mian"'))
    with pytest.raises(ConfigError, match=r"agent.toml: no connection 'mian', which .*datasets.toml names") as caught:
        held(load(tmp_path))
    assert "'main'" in caught.value.next_step
    datasets.write_text(DATASETS.replace("regions.eu]", "regions.ue]"))
    with pytest.raises(ConfigError, match=r"no dataset has a region 'eu'") as caught:
        held(load(tmp_path))
    assert "ue" in caught.value.next_step
    datasets.write_text(DATASETS.replace('connection = "main"\ntable = "orders"\n', ""))
    with pytest.raises(ConfigError, match=r"region 'eu' has no connection and table"):
        held(load(tmp_path))


def test_secrets_are_read_from_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "hush")
    config = load(tmp_path)
    assert config.secret(config.connections["main"].password, "connections.main.password") == "hush"
    assert config.secret(None, "connections.main.password") is None
    assert "hush" not in repr(config)
    monkeypatch.delenv("PGPASSWORD")
    with pytest.raises(ConfigError, match=r"agent.toml: connections.main.password: .* PGPASSWORD is not set"):
        config.secret(config.connections["main"].password, "connections.main.password")
