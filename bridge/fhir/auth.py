"""How we prove to an EHR who we are: headers, tokens with a cache, SMART Backend Services, client certificates.

Source: https://hl7.org/fhir/smart-app-launch/backend-services.html, …/client-confidential-asymmetric.html, RFC 7523, RFC 7518
(RS384, ES384), reference/fhir.md §5.
"""

from __future__ import annotations

import base64
import secrets
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from bridge.errors import EhrRefused, EhrUnreachable
from bridge.fhir.smart import assertion, signing_key
from bridge.settings import Auth

TIMEOUT: Final = (3.0, 10.0)  # s, connect and read
POOL: Final = 16  # connections kept to the host: as many as threads that read and write
SKEW: Final = 30.0  # s: a token this close to its end is not used any more
DEFAULT_LIFETIME: Final = 300.0  # s: what SMART recommends, for servers that leave `expires_in` out
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Authorizer:
    """Headers for every request of one EHR. This one is for everything that needs no token."""

    def __init__(self, credentials: Auth) -> None:
        """Keep what to prove with."""
        self._credentials = credentials
        self._fixed: Mapping[str, str] = _fixed_headers(credentials)

    def headers(self) -> Mapping[str, str]:
        """What to send along; may ask for a token first."""
        return self._fixed

    def drop(self) -> bool:
        """The EHR said 401. True when a second try could go better, because the token is now forgotten."""
        return False

    def prepare(self, session: requests.Session) -> None:
        """Give the session its connections, with the client certificate where the config has one."""
        given = self._credentials
        context = client_context(given.certificate, given.private_key) if given.kind == "mtls" else None
        session.mount("https://", _Adapter(context))
        session.mount("http://", _Adapter(None))


class _Adapter(HTTPAdapter):
    """Pooled connections to one host."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._pools: dict[str, Any] = {}
        super().__init__(pool_connections=1, pool_maxsize=POOL)

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:
        """The pool of the one host; finding it again takes longer than the rest of a request's preparation."""
        name = f"{urlsplit(request.url)[:2]} {verify} {cert} {proxies}"
        pool = self._pools.get(name)
        if pool is None:
            pool = self._pools[name] = super().get_connection_with_tls_context(request, verify, proxies, cert)
        return pool

    def close(self) -> None:
        self._pools.clear()
        super().close()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        if self._context is not None:
            options["ssl_context"] = self._context
        super().init_poolmanager(*args, **options)


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    until: float  # seconds since the epoch


class TokenAuthorizer(Authorizer):
    """Client credentials: one cached token, one request for it in flight; the others wait for that one."""

    def __init__(
        self,
        credentials: Auth,
        base_url: str,
        *,
        session: Callable[[], requests.Session] = requests.Session,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Read the key, ask nothing yet.

        Raises:
            ValueError: a private key that is neither RSA (2048 bits or more) nor P-384.
        """
        super().__init__(credentials)
        self._base = base_url.rstrip("/")
        self._clock = clock
        self._session_of = session
        self._session: requests.Session | None = None
        self._lock = threading.Lock()
        self._token: _Token | None = None
        self._endpoint = credentials.token_url
        self._key = signing_key(credentials.private_key) if credentials.kind == "smart_backend" else None

    def headers(self) -> Mapping[str, str]:
        """Bearer with a token that is good for another `SKEW` seconds."""
        token = self._token
        if token is None or token.until - SKEW <= self._clock():
            with self._lock:
                token = self._token
                if token is None or token.until - SKEW <= self._clock():
                    token = self._token = self._ask()
        return {"Authorization": f"Bearer {token.value}"}

    def drop(self) -> bool:
        """Forget the token."""
        self._token = None
        return True

    def _ask(self) -> _Token:
        given = self._credentials
        session = self._session = self._session or self._open()
        endpoint = self._endpoint = self._endpoint or self._discover(session)
        form = {"grant_type": "client_credentials"}
        if given.scope:
            form["scope"] = given.scope
        headers = {"Accept": "application/json"}
        if self._key is not None:
            form["client_assertion_type"] = ASSERTION_TYPE
            form["client_assertion"] = assertion(
                self._key,
                client_id=given.client_id or "",
                audience=endpoint,  # exactly as the server names it: Epic compares the strings
                now=self._clock(),
                jti=secrets.token_urlsafe(24),
                key_id=given.key_id,
            )
        else:
            headers |= _basic(given.client_id or "", given.client_secret or "")
        answer = self._json(session, "POST", endpoint, data=form, headers=headers)
        value, lifetime = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(value, str) or not value:
            raise EhrUnreachable("token endpoint: 200 without access_token")
        seconds = float(lifetime) if isinstance(lifetime, int | float | str) and _number(lifetime) else DEFAULT_LIFETIME
        # a lifetime below the skew must not mean a token request per call
        return _Token(value, self._clock() + max(seconds, SKEW + 1.0))

    def _discover(self, session: requests.Session) -> str:
        """`token_endpoint` of the SMART configuration, if it is on the EHR's own host: any other the config must name."""
        found = self._json(session, "GET", f"{self._base}/.well-known/smart-configuration")
        endpoint = found.get("token_endpoint")
        if not isinstance(endpoint, str):
            raise EhrRefused("smart-configuration: no token_endpoint; set auth.token_url")
        if urlsplit(endpoint)[:2] != urlsplit(self._base)[:2]:
            raise EhrRefused(
                "smart-configuration: token_endpoint is on another host; set auth.token_url if it is right"
            )
        return endpoint

    def _open(self) -> requests.Session:
        session = self._session_of()
        self.prepare(session)
        return session

    def _json(self, session: requests.Session, method: str, url: str, **options: Any) -> dict[str, Any]:
        try:
            answer = session.request(
                method, url, timeout=TIMEOUT, allow_redirects=False, auth=lambda request: request, **options
            )
        except requests.RequestException as exc:
            raise EhrUnreachable(f"token endpoint: {type(exc).__name__}") from None
        if answer.status_code in {400, 401, 403}:  # invalid_client, invalid_scope: a person must mend it
            raise EhrRefused(f"token endpoint: {answer.status_code}", status=401, codes=("login",))
        try:
            found = answer.json() if answer.ok else None
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise EhrUnreachable(f"token endpoint: {answer.status_code} without a JSON object")
        return found


def authorizer(
    credentials: Auth,
    base_url: str,
    *,
    session: Callable[[], requests.Session] = requests.Session,
    clock: Callable[[], float] = time.time,
) -> Authorizer:
    """The one for this kind of `auth`."""
    if credentials.kind in {"client_secret", "smart_backend"}:
        return TokenAuthorizer(credentials, base_url, session=session, clock=clock)
    return Authorizer(credentials)


def client_context(certificate: str | None, private_key: str | None) -> ssl.SSLContext:
    """TLS that shows our certificate (PEM texts; the key may stand in the same text).

    Python loads a key from a file only, so it lies in a file of ours (0600) for that moment.

    Raises:
        ValueError: no certificate, or a key that does not fit it.
    """
    context = ssl.create_default_context()
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as pem:
        pem.write(f"{certificate or ''}\n{private_key or ''}\n")
        pem.flush()
        try:
            context.load_cert_chain(pem.name)
        except ssl.SSLError:
            raise ValueError("auth.certificate: not a PEM certificate with its private key") from None
    return context


def _fixed_headers(given: Auth) -> Mapping[str, str]:
    if given.kind == "bearer":
        return {"Authorization": f"Bearer {given.token or ''}"}
    if given.kind == "basic":
        return _basic(given.user or "", given.password or "")
    if given.kind == "header":
        return {given.header or "X-Api-Key": given.token or ""}
    return {}


def _basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def _number(value: float | str) -> bool:
    try:
        return float(value) > 0
    except ValueError:
        return False
