"""What the service was told, looked at before it starts: refused is what would not work, and what would be unsafe."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from callus.service.certificates import plain_sha256
from callus.service.roles import ROLES
from callus.service.settings import RESULT_KINDS, SettingsError, is_loopback

if TYPE_CHECKING:
    from collections.abc import Sequence

    from callus.service.settings import Caller, Destination, DicomNode, OpenIdConnect, Settings, Source

_AE_LONGEST: Final = 16
_NAME_LONGEST: Final = 60
_RANGES: Final = {
    "port": (0, 65_535),
    "largest_upload": (1, 2**31 - 1),
    "keep_free": (0, 2**60),
    "waiting_most": (1, 2**31 - 1),
    "retention_days": (0, 36_500),
}
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_SCOPE: Final = re.compile(r"[!#-\[\]-~]+")  # RFC 6749 3.3


def check(settings: Settings) -> None:
    """Refuse what would not work, and what would show patients' pictures to the network in the clear.

    Raises:
        SettingsError: with the reason and what to do.
    """
    for key, (least, most) in _RANGES.items():
        _check_range(getattr(settings, key), key, least, most)
    if not is_loopback(settings.host) and not (settings.certificate or settings.behind_proxy):
        raise SettingsError(
            f"the page would be open to the network without TLS at {settings.host}",
            hint="give a certificate and its key, or behind_proxy where a proxy speaks TLS",
        )
    if bool(settings.certificate) != bool(settings.key):
        raise SettingsError("a certificate needs its key, and a key its certificate")
    _check_node(settings.dicom)
    _check_names("destinations", settings.destinations)
    _check_names("sources", settings.sources)
    for one in settings.destinations:
        _check_destination(one)
    for source in settings.sources:
        _check_web(f"source {source.name}", source, "would get radiographs in the clear")
    if settings.openid.issuer:
        _check_openid(settings.openid)


def _check_names(what: str, several: Sequence[Destination | Source]) -> None:
    names = [one.name for one in several]
    if len(set(names)) != len(names):
        raise SettingsError(f"two {what} have one name: {', '.join(names)}")
    for name in names:
        if not 0 < len(name.strip()) <= len(name) <= _NAME_LONGEST or not name.isprintable():
            raise SettingsError(f"one of the {what} is called {name!r}; expected 1 to {_NAME_LONGEST} letters")


def _check_range(value: int, name: str, least: int, most: int) -> None:
    if not least <= value <= most:
        raise SettingsError(f"{name} is {value}; expected {least:,} to {most:,}")


def _check_node(node: DicomNode) -> None:
    _check_range(node.port, "dicom.port", 0, 65_535)
    _check_title(node.ae_title, "dicom.ae_title")
    if bool(node.certificate) != bool(node.key):
        raise SettingsError("dicom.certificate needs dicom.key")
    if node.client_authorities and not node.certificate:
        raise SettingsError(
            "dicom.client_authorities asks callers for certificates, which only TLS carries",
            hint="give dicom.certificate and dicom.key",
        )
    if node.port and not node.callers:
        raise SettingsError("the DICOM node has no callers: nobody could send", hint="name them in [[dicom.callers]]")
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
        if one.calling_ae_title:
            _check_title(one.calling_ae_title, f"destination {one.name}: calling_ae_title")
        if not one.host:
            raise SettingsError(f"destination {one.name} has no host")
        _check_range(one.port, f"destination {one.name}: port", 1, 65_535)
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


def _check_openid(provider: OpenIdConnect) -> None:
    if not provider.client_id:
        raise SettingsError("openid has no client_id", hint="give what the service is called at the provider")
    if "openid" not in provider.scopes or not all(_SCOPE.fullmatch(str(scope)) for scope in provider.scopes):
        raise SettingsError(
            f"openid.scopes are {list(provider.scopes)}; expected openid among words without blanks",
            hint='scopes = ["openid", "profile", "groups"]',
        )
    for value, role in provider.roles.items():
        if role not in ROLES:
            raise SettingsError(f"openid.roles: {value!r} means {role!r}; expected one of {', '.join(ROLES)}")
