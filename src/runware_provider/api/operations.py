"""The catalogue, reconciling, and whether this service lives and is ready."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from runware_provider.api.problems import documented
from runware_provider.context import Context
from runware_provider.doctor import Diagnosis, DoctorArgs, doctor
from runware_provider.model_search import ModelPage, SearchModelsArgs, search_models
from runware_provider.reconcile import ReconcileArgs, Reconciled, ReplayArgs, reconcile, replay


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


def router(ctx: Context) -> APIRouter:
    """The routes that are about no single generation."""
    routes = APIRouter()

    @routes.get(
        "/v1/models", tags=["models"], summary="Search Runware's catalogue", responses=documented(422, 502, 503)
    )
    async def models(query: Annotated[SearchModelsArgs, Query()]) -> ModelPage:
        return await search_models(ctx, query)

    @routes.post(
        "/v1/reconcile", tags=["operations"], summary="Ask Runware now", responses=documented(404, 422, 502, 503)
    )
    async def ask(args: ReconcileArgs) -> Reconciled:
        return await reconcile(ctx, args)

    @routes.post(
        "/v1/replay", tags=["operations"], summary="Project again what failed", responses=documented(404, 422, 503)
    )
    async def project(args: ReplayArgs) -> Replayed:
        return Replayed(replayed=await replay(ctx, args))

    @routes.get(
        "/v1/doctor",
        tags=["operations"],
        summary="What is wrong, and its remedy",
        responses=documented(422),
    )
    async def examine(query: Annotated[DoctorArgs, Query()]) -> Diagnosis:
        return await doctor(ctx, query)

    @routes.get("/healthz", tags=["operations"], summary="Alive")
    async def healthz() -> Health:
        return Health()

    @routes.get("/readyz", tags=["operations"], summary="Ready, and what is going on", responses=documented(503))
    async def readyz() -> Ready:
        return Ready.model_validate(ctx.runtime.stats())

    return routes
