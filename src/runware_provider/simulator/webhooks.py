"""The webhook sender: one POST per body, confirmed by a 2xx in time, else tried again for a while."""

import asyncio
import io
import random

import aiohttp

from runware_provider.simulator.chance import seeded
from runware_provider.simulator.ledger import Delivery, Ledger
from runware_provider.simulator.options import SimulatorOptions

_SENT_WHOLE = 256 * 1024
_READ = 4096
_HEADERS = {"Content-Type": "application/json", "User-Agent": "runware-simulator"}


class WebhookSender:
    """Sends bodies over one shared session with a bounded number of connections."""

    def __init__(self, options: SimulatorOptions, ledger: Ledger) -> None:
        self._ledger = ledger
        self._options = options
        self._jitter: random.Random = seeded(options.seed, "webhook jitter")
        self._timeout = aiohttp.ClientTimeout(total=options.webhook_timeout)
        self._slots = asyncio.Semaphore(options.webhook_connections)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, url: str, body: bytes, delivery: Delivery, tried: asyncio.Event | None = None) -> None:
        """Deliver `body`: returns once it is confirmed or given up, which `delivery` then says.

        `tried` is set when the receiver has answered, or has let the time pass, for the first time.
        """
        pause = self._options.webhook_retry_first
        for attempt in range(self._options.webhook_retries + 1):
            if attempt:
                # Half to one and a half of the pause, so that many failed deliveries do not come back as one wave.
                await asyncio.sleep(pause * (0.5 + self._jitter.random()))
                pause = min(pause * 2, self._options.webhook_retry_cap)
            delivery.attempts += 1
            self._ledger.totals.webhook_attempts += 1
            delivery.status = await self._post(url, body)
            if tried is not None:
                tried.set()
            if delivery.status is not None and 200 <= delivery.status < 300:
                delivery.outcome = "confirmed"
                self._ledger.totals.webhooks_confirmed += 1
                return
        delivery.outcome = "failed"
        self._ledger.totals.webhooks_failed += 1

    async def _post(self, url: str, body: bytes) -> int | None:
        """The status of the answer, None when none came in time."""
        session = self._session
        if session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=15)
            session = self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                headers=_HEADERS,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        status = None
        try:
            # Images can come inline; aiohttp wants such bodies as a file, so that it sends them piece by piece.
            data = body if len(body) < _SENT_WHOLE else io.BytesIO(body)
            # The slots are ours and not the connector's, or the wait for one would count against the receiver's time.
            async with self._slots, session.post(url, data=data, allow_redirects=False) as answer:
                status = answer.status
                await answer.content.read(_READ)  # a connection with an unread answer is closed, not used again
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            # Also a URL that aiohttp finds no sense in: to Runware it is one more receiver that cannot be reached.
            return status
        return status

    async def close(self) -> None:
        """Close the session; nothing may be on its way."""
        if self._session is not None:
            await self._session.close()
            self._session = None
