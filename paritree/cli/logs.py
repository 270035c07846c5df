"""Logs on stderr: ``key=value`` lines for people, JSON lines for machines (``--log json``).

Without this, structlog would print to stdout, which belongs to results.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Annotated, Any, Final, Literal

import structlog
import typer
from structlog.typing import Processor

from paritree.core.errors import ConfigError

FORMATS: Final = ("text", "json")
LEVELS: Final = ("debug", "info", "warning", "error")
LEVEL: Final = "PARITREE_LOG_LEVEL"
LogFlag = Annotated[
    Literal["text", "json"] | None, typer.Option("--log", envvar="PARITREE_LOG", help="Form of the log on stderr.")
]
LogLevelFlag = Annotated[
    Literal["debug", "info", "warning", "error"] | None,
    typer.Option("--log-level", envvar="PARITREE_LOG_LEVEL", help="Least level that is logged."),
]
SECRET_WORDS: Final = ("password", "secret", "master_key", "private_key")
"""A field whose name contains one of these is shown as ``***``: the second line of defence, should one slip in."""


def from_environment() -> None:
    """What ``PARITREE_LOG`` and ``PARITREE_LOG_LEVEL`` say, for commands that have no flags for it; else warnings."""
    chosen = {name: os.environ.get(name, default) for name, default in (("PARITREE_LOG", "text"), (LEVEL, "warning"))}
    for name, known in (("PARITREE_LOG", FORMATS), (LEVEL, LEVELS)):
        if chosen[name] not in known:
            raise ConfigError(f"environment: {name} is not one of {', '.join(known)}")
    configure(chosen["PARITREE_LOG"], chosen[LEVEL])


def configure(form: str = "text", level: str = "warning") -> None:
    """Send every log of this process to stderr. ``form`` is one of FORMATS, ``level`` one of LEVELS."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redacted,
        structlog.processors.format_exc_info,
    ]
    render = _renderer(form)
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=_StderrFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[_bare, render]))
    root = logging.getLogger()
    root.handlers = [handler]
    # Libraries say much at info; what they warn of matters in a log of ours too.
    root.setLevel(max(threshold, logging.WARNING))


def _renderer(form: str) -> Processor:
    if form == "json":
        return structlog.processors.JSONRenderer()
    return structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False)


def _bare(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return structlog.stdlib.ProcessorFormatter.remove_processors_meta(logger, method, event)


def redacted(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide the values of fields that are named like secrets."""
    for name in event:
        if any(word in name.lower() for word in SECRET_WORDS):
            event[name] = "***"
    return event


class _StderrFactory:
    """A logger on whatever stderr is at that moment, so that a redirection keeps working."""

    def __call__(self, *_: Any) -> structlog.PrintLogger:
        return structlog.PrintLogger(sys.stderr)
