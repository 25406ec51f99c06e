"""The catalogue, reconciling, whether this service lives and is ready, and its metrics."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response, StreamingResponse

from runware_provider.api.answers import ALL_EVENTS, documented
from runware_provider.api.events import EventStreams
from runware_provider.api.problems import refused_filters
from runware_provider.api.queries import refuse_repeats
from runware_provider.context import Context
from runware_provider.doctor import Diagnosis, DoctorArgs, doctor
from runware_provider.errors import RunwareRefused
from runware_provider.model_search import ModelPage, SearchModelsArgs, search_models
from runware_provider.reconcile import ReconcileArgs, Reconciled, ReplayArgs, reconcile, replay
from runware_provider.retrying import Retried, RetryArgs, retry_failed
from runware_provider.stats import ServiceStats, Statistics, StatsArgs

METRICS = """# HELP runware_provider_tasks_open Tasks that wait or are being performed.
# TYPE runware_provider_tasks_open gauge
runware_provider_tasks_open{kind="StoreOutput"} 3.0
"""
"""What a part of the metrics looks like."""


class Health(BaseModel):
    """`ok` while the process lives."""

    status: str = "ok"


class Ready(BaseModel):
    """What is going on. `tasks` by kind: waiting or being performed."""

    model_config = ConfigDict(from_attributes=True)

    running: int
    projection_failed: int
    spent_today_micros: int
    tasks: dict[str, int]
    parked: int
    unclaimed: int


class Replayed(BaseModel):
    """How many generations will be projected again."""

    replayed: int


def router(ctx: Context, streams: EventStreams, statistics: Statistics) -> APIRouter:
    """The routes that are about no single generation."""
    routes = APIRouter()

    @routes.get(
        "/v1/events",
        tags=["generations"],
        summary="Follow all generations: server-sent events",
        response_class=StreamingResponse,
        response_description="Which generations change, and when to read the list again.",
        responses={200: {"content": {"text/event-stream": ALL_EVENTS}}, **documented(422, 503)},
    )
    async def events(last_event_id: Annotated[str | None, Header(max_length=255)] = None) -> Response:
        """`changed` names a generation and its version; `reload` says that news was lost, as at a reconnect."""
        return streams.of_all(last_event_id)

    @routes.get(
        "/v1/stats",
        tags=["operations"],
        summary="What goes on, what it cost, what failed",
        response_description="Numbers, at most some seconds old.",
        responses=documented(422, 503),
    )
    async def stats(request: Request, query: Annotated[StatsArgs, Query()]) -> ServiceStats:
        refuse_repeats(request)
        return await statistics.stats(query)

    @routes.post(
        "/v1/retry",
        tags=["operations"],
        summary="Try again what failed in one way; costs nothing",
        response_description="How many will be.",
        responses=documented(422, 503),
    )
    async def retry(args: RetryArgs) -> Retried:
        return await retry_failed(ctx, args)

    @routes.get(
        "/v1/models",
        tags=["models"],
        summary="Search Runware's catalogue",
        response_model=ModelPage,
        response_description="One page of models.",
        responses=documented(422, 502, 503),
    )
    async def models(request: Request, query: Annotated[SearchModelsArgs, Query()]) -> ModelPage | Response:
        refuse_repeats(request, lists=("tags", "capabilities"))
        try:
            return await search_models(ctx, query)
        except RunwareRefused as error:
            answer = refused_filters(error, query.model_fields_set)
            if answer is None:
                raise
            return answer

    @routes.post(
        "/v1/reconcile",
        tags=["operations"],
        summary="Ask Runware now",
        response_description="What came of it.",
        responses=documented(404, 422, 500, 502, 503),
    )
    async def ask(args: ReconcileArgs) -> Reconciled:
        return await reconcile(ctx, args)

    @routes.post(
        "/v1/replay",
        tags=["operations"],
        summary="Project again what failed",
        response_description="How many will be.",
        responses=documented(404, 422, 500, 503),
    )
    async def project(args: ReplayArgs) -> Replayed:
        return Replayed(replayed=await replay(ctx, args))

    @routes.get(
        "/v1/doctor",
        tags=["operations"],
        summary="What is wrong, and its remedy",
        response_description="What was looked at.",
        responses=documented(422),
    )
    async def examine(request: Request, query: Annotated[DoctorArgs, Query()]) -> Diagnosis:
        refuse_repeats(request)
        return await doctor(ctx, query)

    return routes


def health(ctx: Context) -> APIRouter:
    """The routes for whoever looks after this process, whatever else it serves."""
    routes = APIRouter()

    @routes.get("/healthz", tags=["operations"], summary="Alive", response_description="It is.")
    async def healthz() -> Health:
        return Health()

    @routes.get(
        "/readyz",
        tags=["operations"],
        summary="Ready, and what is going on",
        response_description="Requests can be taken.",
        responses=documented(503),
    )
    async def readyz() -> Ready:
        await ctx.runtime.ready()
        return Ready.model_validate(await ctx.runtime.stats())

    @routes.get(
        "/metrics",
        tags=["operations"],
        summary="Metrics for Prometheus",
        response_class=Response,
        response_description="What this process counted, and what the state store says.",
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}, "example": METRICS}}}},
    )
    async def metrics() -> Response:
        # With prometheus-client, and not before somebody asks.
        from runware_provider.exposition import CONTENT_TYPE, exposition

        return Response(await exposition(ctx.metrics, ctx.runtime), media_type=CONTENT_TYPE)

    return routes
