"""What the service is told when it starts: by the command line, and by one TOML file for what is longer."""

from __future__ import annotations

import dataclasses
import ipaddress
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from callus.errors import CallusError
from callus.service.certificates import plain_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping

    from callus.service.certificates import Certificate

MEGABYTE: Final = 1 << 20
ResultKind = Literal["sr", "sc", "pr"]
"""Structured report, secondary capture, presentation state."""
RESULT_KINDS: Final[tuple[ResultKind, ...]] = get_args(ResultKind)


class SettingsError(CallusError):
    """The service cannot run as it was told to: an unknown key, a value out of its range, an unsafe choice."""


@dataclass(frozen=True)
class Caller:
    """A DICOM node that may send.

    An AE title proves nothing: anybody can claim it. So a caller is its title *and* its address, or its certificate.
    A certificate proves only that an authority gave it: whose it has to be, its name or its hash says.

    Attributes:
        ae_title: what it calls itself; "" for any.
        address: its IP address or network ("10.1.0.0/16"); "" for any, which only a certificate allows.
        certificate_name: the common name that its certificate's subject has; "" for any.
        certificate_sha256: the SHA-256 of its certificate (DER), 64 hexadecimal digits, with or without colons; ""
            for any.
    """

    ae_title: str = ""
    address: str = ""
    certificate_name: str = ""
    certificate_sha256: str = ""

    def admits(self, ae_title: str, address: str, certificate: Certificate | None = None) -> bool:
        """Whether this is the caller of an association.

        Args:
            ae_title: that it calls itself by.
            address: its IP address.
            certificate: that it has shown; None for none.
        """
        if self.ae_title and self.ae_title != ae_title:
            return False
        if self.certificate_name and (certificate is None or certificate.name != self.certificate_name):
            return False
        if self.certificate_sha256 and (
            certificate is None or certificate.sha256 != plain_sha256(self.certificate_sha256)
        ):
            return False
        return not self.address or ipaddress.ip_address(address) in ipaddress.ip_network(self.address, strict=False)


@dataclass(frozen=True)
class DicomNode:
    """How the service listens for DICOM.

    Attributes:
        port: 0 for no DICOM node.
        host: the address that it listens at.
        ae_title: what it is called.
        callers: who may send; nobody else.
        certificate: file (PEM) of its TLS certificate; "" for no TLS.
        key: file (PEM) of its private key.
        client_authorities: file (PEM) of the authorities whose certificates callers must have; "" asks for none.
    """

    port: int = 0
    host: str = "127.0.0.1"
    ae_title: str = "CALLUS"
    callers: tuple[Caller, ...] = (Caller(address="127.0.0.1"),)
    certificate: str = ""
    key: str = ""
    client_authorities: str = ""


@dataclass(frozen=True)
class Destination:
    """Where results go.

    Attributes:
        name: what people call it.
        kind: "c-store" or "stow-rs".
        ae_title: the archive's, for C-STORE.
        host: its host, for C-STORE.
        port: its port, for C-STORE.
        calling_ae_title: what the service calls itself there; "" for the node's own title.
        url: the DICOMweb root, for STOW-RS.
        token_file: a file that holds the bearer token to send with it; "" for none.
        user: a name to log in with there by HTTP Basic, in place of a token; "" for none.
        password_file: a file that holds its password.
        results: which objects it gets.
        authorities: file (PEM) of the authorities that its TLS certificate is checked against; "" for no TLS (C-STORE)
            or the system's (STOW-RS).
    """

    name: str
    kind: Literal["c-store", "stow-rs"] = "c-store"
    ae_title: str = ""
    host: str = ""
    port: int = 104
    calling_ae_title: str = ""
    url: str = ""
    token_file: str = ""
    user: str = ""
    password_file: str = ""
    results: tuple[ResultKind, ...] = ("sr", "sc")
    authorities: str = ""


@dataclass(frozen=True)
class Source:
    """Where studies may be pulled from, by QIDO-RS and WADO-RS.

    Attributes:
        name: what people call it.
        url: the DICOMweb root.
        token_file: a file that holds the bearer token to send with it; "" for none.
        user: a name to log in with there by HTTP Basic, in place of a token; "" for none.
        password_file: a file that holds its password.
        authorities: file (PEM) of the authorities that its TLS certificate is checked against; "" for the system's.
    """

    name: str
    url: str = ""
    token_file: str = ""
    user: str = ""
    password_file: str = ""
    authorities: str = ""


@dataclass(frozen=True)
class OpenIdConnect:
    """An identity provider that people may log in with.

    Attributes:
        issuer: its address; "" for none.
        client_id: what the service is called there.
        client_secret_file: a file that holds the secret.
        role_claim: the claim whose values say who may do what; dots lead into claims within claims.
        scopes: what it is asked for; some providers tell groups or roles only where a scope of theirs is.
        roles: which value of that claim means which role; empty where its values are the roles' own names.
    """

    issuer: str = ""
    client_id: str = ""
    client_secret_file: str = ""
    role_claim: str = "roles"
    scopes: tuple[str, ...] = ("openid", "profile")
    roles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """All of it.

    Attributes:
        data: folder of the database, the objects and the models.
        model: what answers at first, "" for the model that comes with callus; later the one that was switched to.
        database: SQLAlchemy URL; "" for SQLite in ``data``.
        host: the address that the page listens at.
        port: its port; 0 takes a free one.
        certificate: file (PEM) of the TLS certificate; "" for none.
        key: file (PEM) of its private key.
        behind_proxy: a proxy in front of it speaks TLS; its ``X-Forwarded-*`` headers are believed.
        largest_upload: bytes of one file.
        keep_free: bytes of the disk that are never written to.
        waiting_most: jobs that may wait before senders are told to come later.
        retention_days: studies whose newest image came earlier are deleted; 0 keeps them.
        dicom: the DICOM node.
        destinations: where results go.
        sources: where studies may be pulled from.
        openid: the identity provider.
    """

    data: Path
    model: str = ""
    database: str = ""
    host: str = "127.0.0.1"
    port: int = 8080
    certificate: str = ""
    key: str = ""
    behind_proxy: bool = False
    largest_upload: int = 256 * MEGABYTE
    keep_free: int = 512 * MEGABYTE
    waiting_most: int = 10_000
    retention_days: int = 0
    dicom: DicomNode = field(default_factory=DicomNode)
    destinations: tuple[Destination, ...] = ()
    sources: tuple[Source, ...] = ()
    openid: OpenIdConnect = field(default_factory=OpenIdConnect)

    def destination(self, name: str) -> Destination | None:
        """The destination of that name."""
        return next((one for one in self.destinations if one.name == name), None)

    def source(self, name: str) -> Source | None:
        """The source of that name."""
        return next((one for one in self.sources if one.name == name), None)


def load_settings(file: Path | None, **given: Any) -> Settings:
    """Settings from a TOML file and from what the command line gives, which wins.

    Args:
        file: the file; None for none. Its top-level keys are those of :class:`Settings`, its tables ``dicom`` (with
            ``[[dicom.callers]]``), ``[[destinations]]``, ``[[sources]]`` and ``openid``.
        **given: fields of :class:`Settings`; None for what was not given.

    Raises:
        SettingsError: the file cannot be read, a key is unknown, or a value is out of its range.
    """
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"cannot be read: {error}", where=file) from error
    from callus.service.checks import check  # noqa: PLC0415 - it knows these settings

    values |= {key: value for key, value in given.items() if value is not None}
    try:
        settings: Settings = _build(Settings, values, "")
        check(settings)
    except SettingsError as error:
        raise SettingsError(error.what, where=file, hint=error.hint) from error
    return settings


_INNER: Final[dict[str, Any]] = {"dicom": DicomNode, "openid": OpenIdConnect}
_LISTS: Final[dict[str, Any]] = {"destinations": Destination, "sources": Source, "callers": Caller}


def _build(kind: Any, values: dict[str, Any], prefix: str) -> Any:
    known = {entry.name: entry for entry in dataclasses.fields(kind)}
    made: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in known:
            raise SettingsError(f"unknown key {name}; expected one of {', '.join(known)}")
        if key in _INNER:
            made[key] = _build(_INNER[key], _typed(value, dict, name, "a table"), f"{name}.")
        elif key in _LISTS:
            tables = [_typed(one, dict, name, "tables") for one in _typed(value, list, name, "tables")]
            made[key] = tuple(_build(_LISTS[key], one, f"{name}.") for one in tables)
        elif key == "data":
            made[key] = Path(_typed(value, (str, Path), name, "a folder's name"))
        else:
            made[key] = _plain(known[key], value, name)
    try:
        return kind(**made)
    except TypeError as error:
        raise SettingsError(f"{prefix.rstrip('.') or 'the settings'}: {error}") from error


def _plain(entry: dataclasses.Field[Any], value: Any, name: str) -> Any:
    """A value that is no part with keys of its own, of the type that its field has by default; names have none."""
    if entry.default_factory is dict:
        return _typed(value, dict, name, "a table")
    if isinstance(entry.default, tuple):
        return tuple(_typed(value, list, name, "a list"))
    kind = str if entry.default is dataclasses.MISSING else type(entry.default)
    if type(value) is not kind:  # true is no number
        raise SettingsError(f"{name} is {value!r}; expected {kind.__name__}")
    return value


def _typed(value: Any, kind: type | tuple[type, ...], name: str, expected: str) -> Any:
    if not isinstance(value, kind):
        raise SettingsError(f"{name} is {value!r}; expected {expected}")
    return value


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
