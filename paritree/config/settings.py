"""Configuration of a process: flags above, ``PARITREE_…`` environment variables, then a TOML file.

A nested key is written with two underscores: ``PARITREE_AGENT_COORDINATOR__ADDRESS`` overrides ``coordinator.address``
of an agent's file. Relative paths start at the file's folder, those of variables too; those of flags at the working
directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, PrivateAttr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from paritree.config.mistakes import NESTED, Fault, known_variables, translated
from paritree.config.toml import Section
from paritree.core.errors import ConfigError
from paritree.secrets import FORMS, read_secret

_FOLDER: ContextVar[Path] = ContextVar("folder of the configuration file", default=Path())
_FLAGS: ContextVar[Mapping[str, Any] | None] = ContextVar("flags that override everything", default=None)


def placed(path: Path) -> Path:
    """A path of the file that is being read, absolute."""
    return Path(os.path.abspath(_FOLDER.get() / path.expanduser()))


def _pointed(spec: str) -> str:
    form, _, rest = spec.partition(":")
    if form not in ("file", "env", "command") or not rest.strip():
        raise Fault("a secret is not written here but pointed to", f"write {FORMS}")
    return spec


def _address(text: str) -> str:
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65_535:
        raise Fault(f"'{text}' is not host:port", "write it like coordinator.example.org:7443")
    return text


ConfigPath = Annotated[Path, AfterValidator(placed)]
"""A path in a configuration file: absolute after reading, whatever the working directory."""
SecretSpec = Annotated[str, AfterValidator(_pointed)]
"""Where a secret is (``file:…``, ``env:…``, ``command:…``), never what it is; see ``paritree.secrets``."""
Address = Annotated[str, AfterValidator(_address)]
"""``host:port``; an IPv6 host in brackets."""


class Part(BaseModel):
    """A table inside a configuration file; a key that it does not have is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)

    @classmethod
    def of(cls, section: Section) -> Self:
        """The table in a section of a file that no variable overrides. Raises ConfigError."""
        try:
            return cls(**section.values)
        except ValidationError as error:
            raise translated(cls, section, error) from None


class FileSettings(BaseSettings):
    """A configuration file's top table, whose fields the environment may override."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        env_nested_delimiter=NESTED,
    )
    _file: str = PrivateAttr("")

    @property
    def file(self) -> str:
        """The file that was read, for messages."""
        return self._file

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from."""
        return Path(self._file).absolute().parent

    def secret(self, spec: str | None, key: str) -> str | None:
        """The secret that a field points to, None where it is not set. Raises ConfigError."""
        return None if spec is None else read_secret(spec, where=f"{self._file}: {key}", base=self.folder)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, file: the first one that has a field decides it."""
        del dotenv_settings, file_secret_settings
        return InitSettingsSource(settings_cls, dict(_FLAGS.get() or {})), env_settings, init_settings

    @classmethod
    def of(cls, section: Section, *, flags: Mapping[str, Any] | None = None) -> Self:
        """The settings in a section of a file, under the environment, under flags. Raises ConfigError."""
        prefix = cls.model_config.get("env_prefix", "")
        known_variables(prefix, list(cls.model_fields))
        with _inside(Path(section.file).absolute().parent, flags or {}):
            try:
                settings = cls(**section.values)
            except ValidationError as error:
                raise translated(cls, section, error, prefix=prefix, flags=flags or {}) from None
            except SettingsError as error:
                raise ConfigError(
                    f"environment: {error}", next_step="write JSON, or set its parts one by one"
                ) from None
        settings._file = section.file
        return settings


@contextmanager
def _inside(folder: Path, flags: Mapping[str, Any]) -> Iterator[None]:
    tokens = _FOLDER.set(folder), _FLAGS.set(flags)
    try:
        yield
    finally:
        _FOLDER.reset(tokens[0])
        _FLAGS.reset(tokens[1])
