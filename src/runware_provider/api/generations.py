"""Generations over HTTP."""

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.responses import StreamingResponse

from runware_provider.api.answers import EVENT_STREAM, documented, header
from runware_provider.api.events import EventStreams
from runware_provider.api.problems import refused
from runware_provider.api.queries import refuse_repeats
from runware_provider.context import Context
from runware_provider.create import create_generation, get_generation, undelete_generation
from runware_provider.errors import InvalidArgs, OutputNotFound
from runware_provider.rerun import RerunArgs, rerun_generation
from runware_provider.stub import get_generation_stub
from runware_provider.types import (
    PROMPT_FILTER,
    CreateArgs,
    GenerationArgs,
    GenerationState,
    ListArgs,
    Output,
    Page,
    Status,
)

MAX_WAIT = 60
"""Seconds that `Prefer: wait` is followed at most."""

_WAIT = re.compile(r"wait=(\d{1,6})")
_ONE = (404, 422, 500, 503)
"""The problems of every route about one generation."""

_LOCATION = {
    "Location": header("Where to look for what becomes of it.", "/v1/generations/01a213d7-a3fb-72ac-88a2-96baf3d558fe")
}


def _written(value: Any) -> Any:
    """A time as it is written; a bare number could be seconds or milliseconds or a slip."""
    if isinstance(value, str) and not re.match(r"\d{4}-\d{2}-\d{2}", value):
        raise ValueError("must be a time such as 2026-11-24T12:00:00Z")
    return value


_Moment = Annotated[datetime, BeforeValidator(_written)]


class RerunWish(BaseModel):
    """How to run it again: by default with the seeds that its images had."""

    model_config = ConfigDict(extra="forbid")

    remix: bool = Field(default=False, description="New seeds instead of the same.")
    output_id: UUID | None = Field(None, description="Only this image of it.")


def router(ctx: Context, streams: EventStreams) -> APIRouter:  # noqa: C901  one small function a route
    """The routes below `/v1/generations`."""
    routes = APIRouter(prefix="/v1/generations", tags=["generations"])

    @routes.post(
        "",
        status_code=202,
        summary="Ask for images",
        response_description="It is kept and will be done. Its state, settled or not.",
        responses={
            202: {"model": GenerationState, "headers": _LOCATION},
            **documented(402, 409, 422, 429, 500, 502, 503),
        },
    )
    async def create(
        args: CreateArgs,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
        prefer: Annotated[str | None, Header(max_length=255)] = None,
    ) -> Response:
        if idempotency_key is not None:
            args = args.model_copy(update={"idempotency_key": idempotency_key})
        return await create_and_wait(ctx, args, prefer)

    @routes.get(
        "",
        summary="The read model, newest first",
        response_description="One page.",
        responses={200: {"model": Page}, **documented(422, 503)},
    )
    async def index(
        request: Request,
        status: Status | None = None,
        model: Annotated[str | None, Query(max_length=256)] = None,
        created_after: _Moment | None = None,
        created_before: _Moment | None = None,
        prompt: Annotated[str | None, Query(max_length=PROMPT_FILTER, description="Words that it has.")] = None,
        error: Annotated[
            str | None, Query(max_length=64, description="Its error code, or one of its outputs'.")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> Response:
        """Filter by your own labels with `metadata.KEY=VALUE`.

        With `prompt` or `error` a page may be short, or empty, and still have a `next_cursor`: so far was looked.
        """
        args = ListArgs(
            status=status,
            model=model,
            metadata=_labels(request),
            created_after=created_after,
            created_before=created_before,
            prompt=prompt,
            error=error,
            limit=limit,
            cursor=cursor,
        )
        return Response((await ctx.projection.list(args)).model_dump_json(), media_type="application/json")

    @routes.get(
        "/{generation_id}",
        summary="One generation, as it is now",
        response_description="Its state.",
        responses={200: {"model": GenerationState}, **documented(*_ONE)},
    )
    async def show(generation_id: UUID) -> Response:
        return _state(await get_generation(ctx, GenerationArgs(generation_id=generation_id)))

    @routes.get(
        "/{generation_id}/events",
        summary="Follow one generation: server-sent events",
        response_class=StreamingResponse,
        response_description="Event by event: its state at every version, until nothing more will happen.",
        responses={200: {"content": {"text/event-stream": EVENT_STREAM}}, **documented(*_ONE)},
    )
    async def events(generation_id: UUID) -> Response:
        return await streams.of_generation(generation_id)

    @routes.get(
        "/{generation_id}/outputs/{output_id}",
        summary="One output",
        response_description="A stored image, or why there is none.",
        response_model=Output,
        responses=documented(*_ONE),
    )
    async def output(generation_id: UUID, output_id: UUID) -> Output:
        state = await get_generation(ctx, GenerationArgs(generation_id=generation_id))
        found = next((each for each in state.outputs if each.id == output_id), None)
        if found is None:
            raise OutputNotFound(f"generation {generation_id} has no output {output_id}")
        return found

    @routes.post(
        "/{generation_id}/replay",
        status_code=202,
        summary="Project again from state",
        response_description="It will be. Its state.",
        responses={202: {"model": GenerationState}, **documented(*_ONE)},
    )
    async def replay(generation_id: UUID) -> Response:
        return await _told(ctx, generation_id, "replay")

    @routes.post(
        "/{generation_id}/retry",
        status_code=202,
        summary="Try failed outputs again; costs nothing",
        response_description="It will be. Its state.",
        responses={202: {"model": GenerationState}, **documented(*_ONE)},
    )
    async def retry(generation_id: UUID) -> Response:
        answer = await _told(ctx, generation_id, "retry")
        await ctx.runtime.unpark(generation_id)
        return answer

    @routes.post(
        "/{generation_id}/rerun",
        status_code=202,
        summary="Ask for the same again, with the same seeds or new ones; costs money",
        response_description="A new generation. Its state, settled or not.",
        responses={
            202: {"model": GenerationState, "headers": _LOCATION},
            **documented(402, 404, 409, 422, 429, 500, 502, 503),
        },
    )
    async def rerun(
        generation_id: UUID,
        wish: RerunWish | None = None,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
        prefer: Annotated[str | None, Header(max_length=255)] = None,
    ) -> Response:
        given = wish or RerunWish()
        args = RerunArgs(generation_id=generation_id, idempotency_key=idempotency_key, **given.model_dump())
        return _created(await rerun_generation(ctx, args, wait=_wait(prefer)))

    @routes.post(
        "/{generation_id}/undelete",
        summary="Take a DELETE back, within 30 s of it",
        response_description="Its state.",
        responses={200: {"model": GenerationState}, **documented(*_ONE)},
    )
    async def undelete(generation_id: UUID) -> Response:
        return _state(await undelete_generation(ctx, GenerationArgs(generation_id=generation_id)))

    @routes.delete(
        "/{generation_id}/error",
        summary="Clear projection_failed",
        response_description="Its state without it.",
        responses={200: {"model": GenerationState}, **documented(*_ONE)},
    )
    async def clear(generation_id: UUID) -> Response:
        return await _told(ctx, generation_id, "clear_error", 200)

    @routes.delete(
        "/{generation_id}",
        status_code=204,
        summary="Hide at once; remove images and prompt 30 s later",
        response_description="It is hidden.",
        responses=documented(*_ONE),
    )
    async def delete(generation_id: UUID) -> Response:
        await get_generation(ctx, GenerationArgs(generation_id=generation_id))
        await get_generation_stub(ctx, generation_id).tell("delete")
        return Response(status_code=204)

    return routes


async def create_and_wait(ctx: Context, args: CreateArgs, prefer: str | None) -> Response:
    """Make a generation and answer, after the wait that the caller prefers."""
    return _created(await create_generation(ctx, args, wait=_wait(prefer)))


def _wait(prefer: str | None) -> timedelta | None:
    match = _WAIT.search(prefer or "")
    return timedelta(seconds=min(MAX_WAIT, int(match[1]))) if match is not None else None


def _created(state: GenerationState) -> Response:
    """A new generation as an answer."""
    if state.dispatch == "refused":
        return refused(state)
    return _state(state, 202, {"Location": f"/v1/generations/{state.id}"})


def _labels(request: Request) -> dict[str, str]:
    """The metadata filters of a query string. Raises InvalidArgs for a parameter that is no filter, or comes twice."""
    refuse_repeats(request)
    labels: dict[str, str] = {}
    for name, value in request.query_params.items():
        if name.startswith("metadata."):
            labels[name.removeprefix("metadata.")] = value
        elif name not in ListArgs.model_fields or name == "metadata":
            raise InvalidArgs([(name, "is not a filter; labels are filtered with metadata.KEY=VALUE")])
    return labels


def _state(state: GenerationState, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(state.model_dump_json(), status, headers, "application/json")


async def _told(
    ctx: Context, generation_id: UUID, wish: Literal["retry", "replay", "clear_error"], status: int = 202
) -> Response:
    args = GenerationArgs(generation_id=generation_id)
    await get_generation(ctx, args)
    await get_generation_stub(ctx, generation_id).tell(wish)
    return _state(await get_generation(ctx, args), status)
