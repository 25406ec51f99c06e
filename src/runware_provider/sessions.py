"""Who is signed in with a browser: a cookie that only we can make, good for a while and as long as its token is."""

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from hashlib import sha256

LIFETIME = timedelta(days=30)

COOKIE = "runware_provider_session"

_VALUE = re.compile(r"(\d{1,12})\.([0-9a-f]{16})\.([A-Za-z0-9_-]{43})")


class ClientTokens:
    """The tokens of the clients, kept as digests and compared in constant time. Empty: nobody is asked for one."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._digests = [sha256(token.encode()).digest() for token in tokens]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def accepts(self, token: str) -> str | None:
        """The name under which we know `token`, which tells nothing of it; None when it is none of them."""
        given = sha256(token.strip().encode("utf-8", "replace")).digest()
        known = None
        for digest in self._digests:
            if hmac.compare_digest(digest, given):
                known = _name(digest)
        return known

    def has(self, name: str) -> bool:
        """Whether a token that is still good was once known under this name."""
        return name in {_name(digest) for digest in self._digests}


class Sessions:
    """Cookies' values: until when, of which token, and our signature. Nothing is kept of them."""

    def __init__(self, secret: str, tokens: ClientTokens, clock: Callable[[], datetime]) -> None:
        self._secret = secret.encode()
        self._tokens = tokens
        self._clock = clock

    def begin(self, token: str) -> str | None:
        """A cookie for whoever gave `token`; None when it is none of the clients'."""
        name = self._tokens.accepts(token)
        if name is None:
            return None
        told = f"{int((self._clock() + LIFETIME).timestamp())}.{name}"
        return f"{told}.{self._sign(told)}"

    def holds(self, cookie: str) -> bool:
        """Whether we made it, its time is not over, and its token is still one of the clients'."""
        match = _VALUE.fullmatch(cookie)
        if match is None or not hmac.compare_digest(self._sign(f"{match[1]}.{match[2]}"), match[3]):
            return False
        return int(match[1]) > self._clock().timestamp() and self._tokens.has(match[2])

    def _sign(self, told: str) -> str:
        return urlsafe_b64encode(hmac.digest(self._secret, told.encode(), sha256)).rstrip(b"=").decode()


def _name(digest: bytes) -> str:
    return sha256(b"session/" + digest).hexdigest()[:16]
