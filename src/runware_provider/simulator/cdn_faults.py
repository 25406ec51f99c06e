"""What the CDN serves when a fault is staged: the wrong answer, the wrong bytes, too many or too few of them."""

from collections.abc import Iterator
from itertools import chain

from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from runware_provider.simulator.answers import Broken, Connection
from runware_provider.simulator.bombs import bomb
from runware_provider.simulator.faults import Fault
from runware_provider.simulator.faults.delivery import (
    CdnBomb,
    CdnBreak,
    CdnContentType,
    CdnEmpty,
    CdnHang,
    CdnHtml,
    CdnOversize,
    CdnRedirect,
    CdnStall,
    CdnStatus,
    CdnTruncate,
)
from runware_provider.simulator.items import MIME
from runware_provider.simulator.pictures import Picture
from runware_provider.simulator.pouring import CHUNK, chunks, pour, start

_HTML = b"<!doctype html><html><head><title>Sorry</title></head><body><p>This image is not here.</p></body></html>"


async def serve_wrong(fault: Fault, data: bytes, picture: Picture, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve `data`, the picture's bytes, as the fault says."""
    answer = _answer(fault, data, picture)
    if answer is not None:
        await answer(scope, receive, send)
        return
    mime = MIME[picture.format]
    match fault:
        case CdnOversize():
            size = max(fault.size_bytes, len(data))
            await start(send, 200, mime, size if fault.declared else None)
            if not await pour(scope, send, chunks(chain((data,), _zeros(size - len(data))), CHUNK)):
                await Broken()(scope, receive, send)
        case CdnStall():
            await start(send, 200, mime, len(data))
            await send({"type": "http.response.body", "body": data[: fault.after_bytes], "more_body": True})
            connection = Connection(scope, receive)
            await connection.wait(fault.seconds)
            await connection.abort()
        case CdnTruncate():
            await _truncate(fault, data, mime, Connection(scope, receive))
        case _:
            raise TypeError(f"the CDN does not stage {fault.on}/{fault.do}")


def _answer(fault: Fault, data: bytes, picture: Picture) -> Response | None:
    """The wrong answers that are whole."""
    mime = MIME[picture.format]
    match fault:
        case CdnStatus():
            headers = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
            return PlainTextResponse(f"HTTP {fault.status}", fault.status, headers)
        case CdnContentType():
            return Response(data, media_type=fault.content_type)
        case CdnHtml():
            return Response(_HTML, media_type=mime if fault.as_image else "text/html")
        case CdnEmpty():
            return Response(b"", media_type=mime)
        case CdnBomb():
            return Response(bomb(picture.format, fault.width, fault.height), media_type=mime)
        case CdnRedirect():
            return Response(status_code=fault.status, headers={"Location": fault.location})
        case CdnBreak():
            return Broken()
        case CdnHang():
            return Broken(seconds=fault.seconds)
        case _:
            return None


async def _truncate(fault: CdnTruncate, data: bytes, mime: str, connection: Connection) -> None:
    kept = data[: int(len(data) * fault.keep)]
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {mime}\r\n"
    if fault.how == "length":
        connection.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + kept)
    elif fault.how == "chunked":
        connection.write(f"{head}transfer-encoding: chunked\r\n\r\n{len(kept):x}\r\n".encode() + kept + b"\r\n")
    else:
        # Neither length nor chunks: nothing tells the client that this is not all of it.
        connection.write(f"{head}connection: close\r\n\r\n".encode() + kept)
    await connection.close()


def _zeros(size: int) -> Iterator[bytes]:
    block = bytes(CHUNK)
    while size > 0:
        yield block[:size]
        size -= CHUNK
