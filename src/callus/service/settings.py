"""What the service is told when it starts: by the command line, and by one TOML file for what is longer."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args
from urllib.parse import urlsplit

from callus.errors import CallusError
from callus.service.certificates import plain_sha256

if TYPE_CHECKING:
    from callus.service.certificates import Certificate

MEGABYTE: Final = 1 << 20
ResultKind = Literal["sr", "sc", "pr"]
"""Structured report, secondary capture, presentation state."""
RESULT_KINDS: Final[tuple[ResultKind, ...]] = get_args(ResultKind)
_AE_LONGEST: Final = 16
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


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
        role_claim: the claim whose values are roles' names.
    """

    issuer: str = ""
    client_id: str = ""
    client_secret_file: str = ""
    role_claim: str = "roles"


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
        retention_days: studies older than this are deleted; 0 keeps them.
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

    @property
    def database_url(self) -> str:
        """The database's URL."""
        return self.database or f"sqlite:///{(self.data / 'callus.sqlite').resolve()}"

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
        if key in _INNER and isinstance(value, dict):
            made[key] = _build(_INNER[key], value, f"{name}.")
        elif key in _LISTS and isinstance(value, list):
            made[key] = tuple(_build(_LISTS[key], one, f"{name}.") for one in value)
        elif isinstance(value, list):
            made[key] = tuple(value)
        elif key == "data":
            made[key] = Path(value)
        else:
            default = known[key].default
            fits = default is dataclasses.MISSING or type(value) is type(default)
            if not fits:
                raise SettingsError(f"{name} is {value!r}; expected {type(default).__name__}")
            made[key] = value
    try:
        return kind(**made)
    except TypeError as error:
        raise SettingsError(f"{prefix.rstrip('.') or 'the settings'}: {error}") from error


def check(settings: Settings) -> None:
    """Refuse what would not work, and what would show patients' pictures to the network in the clear.

    Raises:
        SettingsError: with the reason and what to do.
    """
    if not is_loopback(settings.host) and not (settings.certificate or settings.behind_proxy):
        raise SettingsError(
            f"the page would be open to the network without TLS at {settings.host}",
            hint="give a certificate and its key, or behind_proxy where a proxy speaks TLS",
        )
    if bool(settings.certificate) != bool(settings.key):
        raise SettingsError("a certificate needs its key, and a key its certificate")
    _check_node(settings.dicom)
    for what, several in (("destinations", settings.destinations), ("sources", settings.sources)):
        names = [one.name for one in several]
        if len(set(names)) != len(names):
            raise SettingsError(f"two {what} have one name: {', '.join(names)}")
    for one in settings.destinations:
        _check_destination(one)
    for source in settings.sources:
        _check_web(f"source {source.name}", source, "would get radiographs in the clear")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_node(node: DicomNode) -> None:
    _check_title(node.ae_title, "dicom.ae_title")
    if bool(node.certificate) != bool(node.key):
        raise SettingsError("dicom.certificate needs dicom.key")
    if node.client_authorities and not node.certificate:
        raise SettingsError(
            "dicom.client_authorities asks callers for certificates, which only TLS carries",
            hint="give dicom.certificate and dicom.key",
        )
    for caller in node.callers:
        _check_caller(caller, asked=bool(node.client_authorities))


def _check_caller(caller: Caller, *, asked: bool) -> None:
    """Refuse a caller that could be anybody, or nobody.

    Args:
        caller: it.
        asked: whether callers are asked for certificates.

    Raises:
        SettingsError: with the reason and what to do.
    """
    if caller.ae_title:
        _check_title(caller.ae_title, "dicom.callers.ae_title")
    if caller.address:
        try:
            ipaddress.ip_network(caller.address, strict=False)
        except ValueError as error:
            raise SettingsError(f"dicom.callers.address is {caller.address!r}; expected an IP address") from error
    elif not asked:
        raise SettingsError(
            "a DICOM caller without an address could be anybody: an AE title proves nothing",
            hint="give its address, or client_authorities to ask for certificates",
        )
    if (caller.certificate_name or caller.certificate_sha256) and not asked:
        raise SettingsError(
            "a DICOM caller's certificate is named, and none is asked for: it could never send",
            hint="give dicom.client_authorities",
        )
    if caller.certificate_sha256 and not _SHA256.fullmatch(plain_sha256(caller.certificate_sha256)):
        raise SettingsError(
            f"dicom.callers.certificate_sha256 is {caller.certificate_sha256!r}; expected 64 hexadecimal digits",
            hint="openssl x509 -in FILE -noout -fingerprint -sha256 tells them",
        )


def _check_destination(one: Destination) -> None:
    if one.kind not in ("c-store", "stow-rs"):
        raise SettingsError(f"destination {one.name}: kind is {one.kind!r}; expected c-store or stow-rs")
    unknown = [kind for kind in one.results if kind not in RESULT_KINDS]
    if unknown or not one.results:
        raise SettingsError(f"destination {one.name}: results are {list(one.results)}; expected of {RESULT_KINDS}")
    if one.kind == "c-store":
        _check_title(one.ae_title, f"destination {one.name}: ae_title")
        if not one.host:
            raise SettingsError(f"destination {one.name} has no host")
        return
    _check_web(f"destination {one.name}", one, "would send results in the clear")


def _check_web(name: str, one: Destination | Source, unsafe: str) -> None:
    """Refuse a DICOMweb server that cannot be asked, or not in private.

    Args:
        name: what it is called in an error.
        one: it.
        unsafe: what an address in the clear would do.

    Raises:
        SettingsError: with the reason and what to do.
    """
    address = urlsplit(one.url)
    if address.username is not None:  # before the address is shown
        raise SettingsError(f"{name}: its url holds a name and a password", hint="give user and password_file")
    try:
        fits = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:  # of the port
        fits = False
    if not fits:
        raise SettingsError(f"{name}: url is {one.url!r}; expected an http or https address")
    if address.scheme == "http" and not is_loopback(address.hostname or ""):
        raise SettingsError(f"{name} {unsafe}", hint="give an https address")
    if bool(one.user) != bool(one.password_file):
        raise SettingsError(f"{name}: user needs password_file, and password_file a user")
    if one.user and one.token_file:
        raise SettingsError(f"{name} has a token and a password", hint="give the one that it asks for")
    if ":" in one.user or not one.user.isprintable():
        raise SettingsError(f"{name}: user holds a colon, or what is no letter")


def _check_title(title: str, name: str) -> None:
    if not 0 < len(title.strip()) <= _AE_LONGEST or not title.isascii() or "\\" in title:
        raise SettingsError(f"{name} is {title!r}; expected 1 to {_AE_LONGEST} ASCII characters")
