"""``paritree pki``: certificates for one trust domain, and the master key of digests."""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from paritree import certificate as certificates
from paritree.cli.output import JsonFlag, command_app, show
from paritree.core.errors import ConfigError
from paritree.pki import (
    AUTHORITY_DAYS,
    LEAF_DAYS,
    OPERATOR_DAYS,
    Authority,
    Credential,
    new_master_key,
    read_certificates,
    read_public_file,
)

app = command_app("Make and show certificates and keys.")
DAYS_MAX: Final = 36_500
Folder = Annotated[Path, typer.Argument(help="The authority's folder, with ca.pem and ca.key.")]
Name = Annotated[str, typer.Option("--name", help="Letters, digits, dot, dash, underscore.")]
Force = Annotated[bool, typer.Option("--force", help="Replace existing files.")]


@app.command()
def ca(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder for the new authority.")],
    trust_domain: Annotated[str, typer.Option(help="Goes into every name: spiffe://<trust domain>/…")] = "paritree",
    days: Annotated[int, typer.Option(min=1, max=DAYS_MAX, help="Validity in days.")] = AUTHORITY_DAYS,
    force: Force = False,
    as_json: JsonFlag = False,
) -> None:
    """Make a certificate authority: DIR/ca.pem (give it to everybody) and DIR/ca.key (keep it)."""
    authority = Authority.create(trust_domain, now=_now(), days=days)
    _write_pair(folder, "ca", authority.credential, force=force, as_json=as_json)


@app.command()
def agent(
    folder: Folder,
    region: Annotated[str, typer.Option(help="The region that the agent speaks for.")],
    name: Name,
    days: Annotated[int, typer.Option(min=1, max=DAYS_MAX, help="Validity in days.")] = LEAF_DAYS,
    force: Force = False,
    as_json: JsonFlag = False,
) -> None:
    """Make an agent's certificate: DIR/agent-<region>-<name>.pem and .key."""
    credential = Authority.load(folder).agent(region, name, now=_now(), days=days)
    _write_pair(folder, f"agent-{region}-{name}", credential, force=force, as_json=as_json)


@app.command()
def coordinator(
    folder: Folder,
    dns: Annotated[list[str], typer.Option("--dns", help="A host name or address that agents dial; repeatable.")],
    days: Annotated[int, typer.Option(min=1, max=DAYS_MAX, help="Validity in days.")] = LEAF_DAYS,
    force: Force = False,
    as_json: JsonFlag = False,
) -> None:
    """Make the coordinator's certificate: DIR/coordinator.pem and .key."""
    credential = Authority.load(folder).coordinator(dns, now=_now(), days=days)
    _write_pair(folder, "coordinator", credential, force=force, as_json=as_json)


@app.command()
def operator(
    folder: Folder,
    name: Name,
    days: Annotated[int, typer.Option(min=1, max=DAYS_MAX, help="Validity in days.")] = OPERATOR_DAYS,
    force: Force = False,
    as_json: JsonFlag = False,
) -> None:
    """Make the certificate of somebody who asks for sweeps: DIR/operator-<name>.pem and .key."""
    credential = Authority.load(folder).operator(name, now=_now(), days=days)
    _write_pair(folder, f"operator-{name}", credential, force=force, as_json=as_json)


@app.command("dataset-key")
def dataset_key(
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    as_json: JsonFlag = False,
) -> None:
    """Make the master key that all regions share and the coordinator never sees: 64 hex digits."""
    # No --force: with another key, agents are not compared, and the tokens of old reports resolve no more.
    write_private(file, new_master_key().encode() + b"\n", force=False, forceable=False)
    show(
        {"file": str(file)}, lambda _: [f"{file}: give it to every agent, and not to the coordinator"], as_json=as_json
    )


@app.command("show")
def show_file(
    file: Annotated[Path, typer.Argument(help="A PEM file with certificates.")],
    as_json: JsonFlag = False,
) -> None:
    """Show what the certificates of a file are for and how long they last."""
    found = read_certificates(read_public_file(file, hint="paritree pki"), str(file))
    show([_described(one, _now()) for one in found], _lines, as_json=as_json)


def _described(certificate: Any, now: dt.datetime) -> dict[str, Any]:
    try:
        names = certificates.uri_names(certificate) + certificates.host_names(certificate)
        authority = certificates.is_authority(certificate)
        purpose = "authority" if authority else certificates.purpose_text(certificate)
    except certificates.Unfit as error:
        raise ConfigError(f"the certificate cannot be shown: {error}") from error
    return {
        "subject": certificates.common_name(certificate),
        "issuer": certificate.issuer.rfc4514_string(),
        "names": names,
        "purpose": purpose,
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "expired": now > certificate.not_valid_after_utc,
        "days_left": (certificate.not_valid_after_utc - now).days,
    }


def _lines(document: list[dict[str, Any]]) -> Iterable[str]:
    for one in document:
        yield f"subject   {one['subject']}"
        yield f"names     {', '.join(one['names']) or 'none'}"
        yield f"purpose   {one['purpose']}"
        yield f"issuer    {one['issuer']}"
        left = "EXPIRED" if one["expired"] else f"{one['days_left']} days left"
        yield f"expires   {one['not_after'][:16].replace('T', ' ')} UTC ({left})"


def _write_pair(folder: Path, name: str, credential: Credential, *, force: bool, as_json: bool) -> None:
    """Write NAME.key and NAME.pem, both for the owner only. Raises ConfigError when one exists and not ``force``."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    for path in (certificate, key):
        if path.exists() and not force:
            raise _exists(path)
    write_private(key, credential.key, force=force)
    write_private(certificate, credential.certificate, force=force)
    document = {"certificate": str(certificate), "key": str(key)}
    show(document, lambda pair: [pair["certificate"], pair["key"]], as_json=as_json)


def write_private(path: Path, content: bytes, *, force: bool, forceable: bool = True) -> None:
    """Write a file that only its owner may read: whole or not at all. Raises ConfigError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {path.parent} ({error.strerror})") from error
    try:
        descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            if force:
                os.replace(scratch, path)
            else:
                os.link(scratch, path)  # unlike a rename, it refuses to replace
        finally:
            Path(scratch).unlink(missing_ok=True)
    except FileExistsError as error:
        raise _exists(path, forceable=forceable) from error
    except OSError as error:
        raise ConfigError(f"cannot write {path} ({error.strerror})", next_step="choose another folder") from error


def _exists(path: Path, *, forceable: bool = True) -> ConfigError:
    way = "use --force to replace it" if forceable else "remove it yourself if nothing depends on it"
    return ConfigError(f"{path} exists", next_step=way)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
