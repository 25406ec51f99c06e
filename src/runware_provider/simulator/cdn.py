"""The CDN: image URLs that live for a while, and the faults of what comes from them."""

import time

from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from runware_provider.simulator.answers import CLOSING, Broken
from runware_provider.simulator.catalogue import hero_pictures
from runware_provider.simulator.cdn_faults import serve_wrong
from runware_provider.simulator.darkroom import Darkroom
from runware_provider.simulator.faults import Staging, Subject, first_of
from runware_provider.simulator.faults.delivery import CdnSlow
from runware_provider.simulator.items import MIME
from runware_provider.simulator.ledger import Ledger
from runware_provider.simulator.pictures import Picture
from runware_provider.simulator.pouring import CHUNK, chunks, pour, start, waited
from runware_provider.simulator.tasks import EXTENSIONS


class Cdn:
    """Serves `GET /image/ws/<n>/ii/<uuid>.<ext>`: 404 for what was never made, 403 once its time is over."""

    def __init__(self, staging: Staging, ledger: Ledger, darkroom: Darkroom) -> None:
        self._staging = staging
        self._ledger = ledger
        self._darkroom = darkroom

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one image, as ASGI."""
        self._ledger.totals.cdn_hits += 1
        image_uuid, _, extension = scope["path_params"]["name"].partition(".")
        picture, task_uuid, refusal = self._found(image_uuid, extension)
        if picture is None:
            await self._refuse(refusal, scope, receive, send)
            return
        faults = self._staging.firing("cdn", "body", Subject(task_uuid, picture.prompt, image_uuid))
        parts = await self._darkroom.parts(picture, image_uuid)
        slow = first_of(CdnSlow, faults)
        if slow is not None and not await waited(scope[CLOSING], slow.seconds):
            await Broken()(scope, receive, send)
            return
        staged = next((fault for fault in faults if not isinstance(fault, CdnSlow)), None)
        if staged is not None:
            self._ledger.totals.cdn_errors += 1
            await serve_wrong(staged, b"".join(parts), picture, scope, receive, send)
            return
        size = sum(map(len, parts))
        await start(send, 200, MIME[picture.format], size)
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        rate = slow.bytes_per_second if slow is not None else None
        # A slow body comes in twenty pieces a second.
        piece = CHUNK if rate is None else min(CHUNK, max(1, rate // 20))
        if await pour(scope, send, chunks(parts, piece), rate):
            self._ledger.totals.cdn_bytes += size
        else:
            await Broken()(scope, receive, send)

    def _found(self, image_uuid: str, extension: str) -> tuple[Picture | None, str, Response]:
        result = self._ledger.image(image_uuid)
        picture = hero_pictures().get(image_uuid) if result is None else result.picture
        if picture is None or extension != EXTENSIONS[picture.format]:
            return None, "", PlainTextResponse("Not found", 404)
        if result is not None and time.time() >= result.expires_at:
            return None, "", PlainTextResponse("URL expired", 403)
        return picture, result.task_uuid if result is not None else "", Response()

    async def _refuse(self, refusal: Response, scope: Scope, receive: Receive, send: Send) -> None:
        self._ledger.totals.cdn_errors += 1
        await refusal(scope, receive, send)
