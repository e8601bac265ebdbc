"""Who may ask: by which name the server is called, from which site, with which key."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Mapping

from pygan.serve.answers import Refused
from pygan.serve.limits import Settings

_SAFE = ("GET", "HEAD", "OPTIONS")
COOKIE = "pygan_serve"


class Guard:
    """Compares in constant time. What it puts into a cookie is not the key, and worth nothing after a restart."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._key = settings.api_key.encode()
        self._own = secrets.token_bytes(32)
        self.cookie = self._digest(self._key).hex()
        # Cookies do not know ports: two servers of one machine must not throw each other's out.
        self.name = f"{COOKIE}_{hashlib.sha256(self._own).hexdigest()[:8]}"
        own = socket.gethostname().lower()
        self._allowed = {name.lower() for name in settings.names}
        self._names = {"localhost", settings.host.lower(), own, f"{own}.local", *self._allowed}

    def check_name(self, host: str | None, version: str) -> None:
        """A name bent to this machine (DNS rebinding) is not one of its own. Errors: Refused.

        version: of HTTP. By 1.0 none need be said, as some load balancers do who look whether one is well: no browser.
        """
        if host is None and version != "1.0":
            raise Refused(400, "the request has no Host")
        known = self._settings.on_loopback or self._allowed  # else its names cannot be known
        if known and host is not None and not self._is_own(host):
            raise Refused(421, "this server is not known by that name (--allow-host NAME makes it known)", "host")

    def check_site(self, method: str, headers: Mapping[str, str]) -> None:
        """A page of another site may look at nothing and change nothing. Errors: Refused."""
        if method in _SAFE:
            return
        site = headers.get("origin", "").partition("://")[2].lower()
        # A proxy may put a Host of its own making in place of the name that the browser knows.
        ours = site == headers.get("host", "").lower() or _name(site) in self._allowed
        elsewhere = "origin" in headers and not ours
        if elsewhere or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise Refused(403, "the request comes from another site", "origin")

    def check_key(self, headers: Mapping[str, str]) -> None:
        """Errors: Refused."""
        if not self._key:
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = [token.strip()] if scheme.lower() == "bearer" else []
        given += [headers["x-api-key"]] if "x-api-key" in headers else []
        right = any(self.is_key(one) for one in given)
        if not (right or hmac.compare_digest(self._cookie(headers.get("cookie", "")).encode(), self.cookie.encode())):
            refused = Refused(401, "the key is missing or wrong: send it as Authorization: Bearer KEY", "key")
            refused.headers["WWW-Authenticate"] = 'Bearer realm="pygan"'
            raise refused

    def is_key(self, given: str) -> bool:
        """Is it the key? Lengths are not told by the time that it takes."""
        return hmac.compare_digest(self._digest(given.encode("utf-8", "replace")), self._digest(self._key))

    def set_cookie(self, headers: Mapping[str, str]) -> str:
        """The value of Set-Cookie for who gave the key. Behind a proxy, only the browser knows that it speaks TLS."""
        secure = "; Secure" if headers.get("origin", "").startswith("https://") else ""
        return f"{self.name}={self.cookie}; Path=/; HttpOnly; SameSite=Strict{secure}"

    def _digest(self, value: bytes) -> bytes:
        return hmac.digest(self._own, value, "sha256")

    def _cookie(self, header: str) -> str:
        """By hand: one odd cookie of another server makes http.cookies give up on all."""
        for pair in header.split(";"):
            name, _, value = pair.strip().partition("=")
            if name == self.name:
                return value
        return ""

    def _is_own(self, host: str) -> bool:
        name = _name(host)
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _name(host: str) -> str:
    """The name or address of "name:port", in lower case, without the brackets of IPv6."""
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    return name.strip("[]").lower()
