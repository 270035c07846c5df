"""A dataset's topic as the agent's file describes it, and the dead letters of its messages."""

from __future__ import annotations

from edge_agent.letters.found import found
from edge_agent.letters.refreshed import REFRESH
from edge_agent.letters.store import LetterStore
from edge_agent.topic.changes import Topic, TopicChanges
from edge_agent.topic.keys import KeyField
from edge_agent.topic.stream import Message, Server
from paritree.config.agent import AgentConfig
from paritree.core.deadletters import LetterKind
from paritree.core.digest import DatasetKeys
from paritree.core.profile import Binding

MESSAGE_BYTES_KEPT = 16 << 10
"""Of a message that is none: enough to see what it is."""


def topic_of(config: AgentConfig, dataset: str) -> Topic | None:
    """The topic that tells a dataset's changes, with its secrets read; None where none does. Raises ConfigError."""
    said = config.refresh[dataset].topic
    if said is None:
        return None
    where = f"refresh.{dataset}.topic"
    secrets = {
        name: value
        for name, spec in (("password", said.password), ("token", said.token))
        if (value := config.secret(spec, f"{where}.{name}")) is not None
    }
    return Topic(
        server=Server(said.url, said.user, secrets, said.ca, said.cert, said.key),
        stream=said.stream,
        subject=said.subject,
        marker_subject=said.marker_subject or "",
        consumer=said.consumer or "",
        format=said.format,
        key_header=said.key_header,
        columns={name: KeyField(one.field, one.form) for name, one in said.columns.items()},
        settle_s=said.settle_s,
        lag_max_s=said.lag_max_s,
    )


def topic_changes(
    topic: Topic, binding: Binding, name: str, keys: DatasetKeys | None, store: LetterStore | None
) -> TopicChanges:
    """The change source; messages that cannot be read become dead letters where there is a ``store`` and ``keys``.

    Raises ConfigError.
    """
    if store is None or keys is None:
        return TopicChanges(topic, binding, name)

    def rejected(message: Message, why: str) -> None:
        data = message.data
        payload = {
            "stream": topic.stream,
            "subject": message.subject,
            "sequence": message.sequence,
            "bytes": len(data),
            "begins": data[:MESSAGE_BYTES_KEPT].hex(),
        }
        identity = f"topic\0{topic.stream}\0{message.sequence}\0".encode() + data
        store.take(binding.dataset, REFRESH, [found(keys, LetterKind.MESSAGE, identity, why, payload)])

    def accepted() -> None:
        store.clear_kind(binding.dataset, LetterKind.MESSAGE)

    return TopicChanges(topic, binding, name, rejected=rejected, accepted=accepted)


def demand_topic(topic: Topic | None, binding: Binding) -> None:
    """Raise ConfigError for a topic that cannot name the dataset's keys, without a connection to it."""
    if topic is not None:
        TopicChanges(topic, binding, "")
