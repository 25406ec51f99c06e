"""`/_simulator`: what the simulator knows, for tests in other processes, and the plan to be replaced."""

import json
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runware_provider.simulator.answers import json_answer
from runware_provider.simulator.darkroom import Darkroom
from runware_provider.simulator.faults import BadPlan, FaultPlan, Staging
from runware_provider.simulator.ledger import Ledger

MAX_PAGE = 1000
MAX_PLAN_BYTES = 1024 * 1024


class Admin:
    """JSON over HTTP, unauthenticated: the simulator is for loopback."""

    def __init__(self, ledger: Ledger, staging: Staging, darkroom: Darkroom) -> None:
        self._ledger = ledger
        self._staging = staging
        self._darkroom = darkroom

    def routes(self) -> list[Route]:
        """The routes to mount."""
        return [
            Route("/_simulator/ledger", self.ledger, methods=["GET"]),
            Route("/_simulator/ledger", self.reset, methods=["DELETE"]),
            Route("/_simulator/stats", self.stats, methods=["GET"]),
            Route("/_simulator/faults", self.plan, methods=["GET"]),
            Route("/_simulator/faults", self.replace_plan, methods=["PUT"]),
            Route("/_simulator/faults", self.clear_plan, methods=["DELETE"]),
        ]

    async def ledger(self, request: Request) -> Response:
        """`?task_uuid=` for one task (an empty list when unknown), else a page by `offset` and `limit` (1,000)."""
        task_uuid = request.query_params.get("task_uuid")
        if task_uuid is not None:
            entry = self._ledger.entry(task_uuid)
            return json_answer({"total": len(self._ledger), "entries": [entry.as_json()] if entry is not None else []})
        try:
            offset = int(request.query_params.get("offset", "0"))
            limit = int(request.query_params.get("limit", "100"))
        except ValueError:
            return json_answer({"error": "offset and limit must be integers"}, 400)
        if offset < 0 or not 1 <= limit <= MAX_PAGE:
            return json_answer({"error": f"offset must be at least 0, limit 1 to {MAX_PAGE}"}, 400)
        entries = [entry.as_json() for entry in self._ledger.entries(offset, limit)]
        return json_answer({"total": len(self._ledger), "offset": offset, "limit": limit, "entries": entries})

    async def reset(self, request: Request) -> Response:  # noqa: ARG002 - a route's shape
        """Forget every task that does not run, and all counts."""
        self._ledger.reset()
        return json_answer({"total": len(self._ledger)})

    async def stats(self, request: Request) -> Response:  # noqa: ARG002 - a route's shape
        """The totals, and what is held in memory."""
        totals = asdict(self._ledger.totals)
        totals["cost"] = totals.pop("cost_micros") / 1e6
        return json_answer({**totals, "tasks_known": len(self._ledger), "cache_bytes": self._darkroom.kept_bytes})

    async def plan(self, request: Request) -> Response:  # noqa: ARG002 - a route's shape
        """The plan in force, and how often each of its rules has fired."""
        return self._shown()

    async def replace_plan(self, request: Request) -> Response:
        """Put another plan in force; 400 with the mistakes when it is none. All counts begin anew."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_PLAN_BYTES:
                return json_answer({"error": f"a plan has at most {MAX_PLAN_BYTES} bytes"}, 413)
        try:
            self._staging.replace(FaultPlan.parse(json.loads(body)))
        except (ValueError, RecursionError) as error:
            return json_answer({"error": str(error) if isinstance(error, BadPlan) else f"not JSON: {error}"}, 400)
        return self._shown()

    async def clear_plan(self, request: Request) -> Response:  # noqa: ARG002 - a route's shape
        """Stage nothing more."""
        self._staging.clear()
        return self._shown()

    def _shown(self) -> Response:
        plan = self._staging.plan.model_dump(mode="json", exclude_defaults=True)
        return json_answer({"plan": plan, "fired": self._staging.fired})
