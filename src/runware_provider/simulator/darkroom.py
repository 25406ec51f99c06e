"""The darkroom: pictures drawn in threads, once each, and kept while there is room."""

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from runware_provider.simulator.options import SimulatorOptions
from runware_provider.simulator.padding import padded_parts
from runware_provider.simulator.pictures import Picture, draw

Parts = tuple[bytes, ...]


class Darkroom:
    """Turns pictures into bytes. The cache is bounded by bytes, drawing by threads."""

    def __init__(self, options: SimulatorOptions) -> None:
        self._image_bytes = options.image_bytes
        self._room = options.cache_bytes
        self._kept: OrderedDict[Picture, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._drawing: dict[Picture, asyncio.Future[bytes]] = {}
        self._threads = ThreadPoolExecutor(options.drawing_threads, "runware-simulator-draws")

    @property
    def kept_bytes(self) -> int:
        """How much the cache holds."""
        return self._kept_bytes

    async def parts(self, picture: Picture, image_uuid: str) -> Parts:
        """The image in pieces that need not be copied together; of `image_bytes` in all when that is set."""
        if self._image_bytes is not None:
            return padded_parts(picture, image_uuid, self._image_bytes)
        return (await self._drawn(picture),)

    async def develop(self, picture: Picture, image_uuid: str) -> bytes:
        """The image in one piece."""
        return b"".join(await self.parts(picture, image_uuid))

    def close(self) -> None:
        """Stop the threads; what is being drawn is finished first."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _drawn(self, picture: Picture) -> bytes:
        kept = self._kept.get(picture)
        if kept is not None:
            self._kept.move_to_end(picture)
            return kept
        drawing = self._drawing.get(picture)
        if drawing is None:
            drawing = asyncio.get_running_loop().run_in_executor(self._threads, draw, picture)
            self._drawing[picture] = drawing
            drawing.add_done_callback(lambda done: self._keep(picture, done))
        # One viewer who leaves must not take the picture from the others.
        return await asyncio.shield(drawing)

    def _keep(self, picture: Picture, drawing: "asyncio.Future[bytes]") -> None:
        self._drawing.pop(picture, None)
        if drawing.cancelled() or drawing.exception() is not None:
            return
        data = drawing.result()
        if len(data) > self._room:
            return
        self._kept[picture] = data
        self._kept_bytes += len(data)
        while self._kept_bytes > self._room:
            _, forgotten = self._kept.popitem(last=False)
            self._kept_bytes -= len(forgotten)
