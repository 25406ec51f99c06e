"""What stands in for Runware while we measure: its API, its webhooks and its image server, without a thought of theirs.

Not the simulator: that checks, draws and keeps books, and would take more of the machine than the service. This one
acknowledges at once, delivers each image by a webhook of its own at once, and serves the same bytes for every image.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from benchmarks.wire import Answer, Json, Later, Pool, answer, request, serve

HELD = "held"
"""A prompt of which nothing is ever delivered; `StandIn.held` has the addresses."""


class StandIn:
    """A Runware on loopback. `acknowledged`: seconds from each delivery's time to the service's 200.

    `image_seconds`: what an image takes to arrive.
    """

    def __init__(self, image: bytes, ports: Sequence[int] = ()) -> None:
        self.image = image
        self.acknowledged: list[float] = []
        self.held: list[Json] = []
        self.port = 0
        self.image_seconds = 0.0
        self._pools = [Pool(port) for port in ports]
        self._turn = 0
        self._at_work: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def deliver_to(self, ports: Sequence[int]) -> None:
        """Deliver to these ports in turn, whatever the address says: what a load balancer would do."""
        self._pools = [Pool(port) for port in ports]

    async def start(self) -> None:
        """Listen."""
        self._server, self.port = await serve(self._answer)

    async def stop(self) -> None:
        """Deliver nothing more and hang up."""
        for task in self._at_work:
            task.cancel()
        await asyncio.gather(*self._at_work, return_exceptions=True)
        for pool in self._pools:
            pool.close()
        if self._server is not None:
            self._server.close()

    def settings(self) -> dict[str, str]:
        """What a service uses it with."""
        return {
            "RUNWARE_API_KEY": "of-the-benchmark",
            "RUNWARE_PROVIDER_RUNWARE_URL": f"http://127.0.0.1:{self.port}/v1",
            "RUNWARE_PROVIDER_IMAGE_HOSTS": "127.0.0.1",
        }

    def _answer(self, head: bytes, body: bytes) -> Answer:
        if head.startswith(b"GET "):
            image = answer(self.image, "image/jpeg")
            return Later(self.image_seconds, image) if self.image_seconds else image
        tasks: list[Json] = json.loads(body)
        rows = []
        for task in tasks:
            rows.append({"taskType": task["taskType"], "taskUUID": task["taskUUID"]})
            if task["taskType"] != "imageInference":
                rows[-1]["status"] = "processing"
            elif task["positivePrompt"] == HELD:
                self.held.append(task)
            else:
                asyncio.get_running_loop().call_soon(self._deliver, task)
        return answer(json.dumps({"data": rows}).encode())

    def _deliver(self, task: Json) -> None:
        for _ in range(task.get("numberResults", 1)):
            pool = self._pools[self._turn % len(self._pools)]
            self._turn += 1
            work = asyncio.get_running_loop().create_task(self._post(pool, task))
            self._at_work.add(work)
            work.add_done_callback(self._at_work.discard)

    async def _post(self, pool: Pool, task: Json) -> None:
        delivery = self.delivery(task, uuid4(), pool.port)
        began = time.perf_counter()
        status, body = await pool.ask(delivery)
        if status != 200:
            raise RuntimeError(f"a delivery was answered {status}: {body!r}")
        self.acknowledged.append(time.perf_counter() - began)

    def delivery(self, task: Json, image: UUID, port: int) -> bytes:
        """The webhook of one image of a task."""
        item = {
            "taskType": "imageInference",
            "taskUUID": task["taskUUID"],
            "imageUUID": str(image),
            "imageURL": f"http://127.0.0.1:{self.port}/image/ws/2/ii/{image}.jpg",
            "seed": 1_234_567_890,
            "cost": 0.0013,
        }
        return _webhook(task, {"data": [item]}, port)

    @staticmethod
    def failure(task: Json, number: int, port: int) -> bytes:
        """The webhook of an image that failed: it is kept, and nothing is to be fetched."""
        item = {
            "taskType": "imageInference",
            "taskUUID": task["taskUUID"],
            "imageUUID": str(UUID(int=number)),
            "code": "benchmark",
            "message": "an error of one image, so that there is nothing to fetch",
        }
        return _webhook(task, {"errors": [item]}, port)


def _webhook(task: Json, body: Json, port: int) -> bytes:
    parts = urlsplit(task["webhookURL"])
    return request("POST", f"{parts.path}?{parts.query}", port, json.dumps(body).encode())
