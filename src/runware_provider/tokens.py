"""Webhook addresses that only we can make: an HMAC over the generation's id, checked without a look-up."""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from uuid import UUID

WEBHOOK_PATH = "/webhooks/runware"


class WebhookTokens:
    """`secrets`: the current one first, then earlier ones whose addresses are still accepted."""

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets:
            raise ValueError("at least one secret is needed")
        self._secrets = [secret.encode() for secret in secrets]

    def token(self, generation_id: UUID) -> str:
        """The token of one generation: 43 characters of base64url."""
        return self._sign(self._secrets[0], generation_id)

    def accepts(self, generation_id: UUID, token: str) -> bool:
        """Whether `token` was made for this generation with any of the secrets; takes the same time for any token."""
        given = token.encode("utf-8", "replace")
        accepted = False
        for secret in self._secrets:
            accepted |= hmac.compare_digest(self._sign(secret, generation_id).encode(), given)
        return accepted

    def webhook_url(self, public_url: str, generation_id: UUID) -> str:
        """The address that Runware is given."""
        return f"{public_url}{WEBHOOK_PATH}?generation_id={generation_id}&token={self.token(generation_id)}"

    @staticmethod
    def _sign(secret: bytes, generation_id: UUID) -> str:
        return urlsafe_b64encode(hmac.digest(secret, generation_id.bytes, sha256)).rstrip(b"=").decode()
