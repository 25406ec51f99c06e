"""Looks at everything the service depends on, and says what to do about what is wrong."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Literal
from uuid import UUID

import aiohttp
from pydantic import BaseModel, ConfigDict

from runware_provider.artifacts import StoreUnavailable
from runware_provider.clock import SteadyClock
from runware_provider.context import Context
from runware_provider.errors import RunwareProviderError, RunwareRefused, StateUnavailable
from runware_provider.model_search import SearchModelsArgs, search_models
from runware_provider.types import ListArgs

PROBE_ID = UUID(int=0)
"""A generation that never exists: the webhook answers a delivery for it and keeps nothing."""

CHECK_WAIT = 15.0
"""Seconds that one check may take."""

SKEW = timedelta(seconds=30)
UNAUTHORIZED = 100


class DoctorArgs(BaseModel):
    """`deep`: read every page and every register of the state as well, which takes a while."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    deep: bool = False


class Check(BaseModel):
    """One thing that was looked at. `remedy` says what to do unless it is ok."""

    model_config = ConfigDict(frozen=True)

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    remedy: str | None = None


class Diagnosis(BaseModel):
    """`healthy`: nothing failed; there may be warnings."""

    model_config = ConfigDict(frozen=True)

    healthy: bool
    checks: list[Check]


async def doctor(ctx: Context, args: DoctorArgs) -> Diagnosis:
    """Look at key, public address, database, bucket, clock, state and what waits for a person."""
    looks: list[tuple[str, Callable[[Context], Awaitable[Check]]]] = [
        ("key", _key),
        ("public address", _public_address),
        ("bucket", _bucket),
        ("database", _database),
        ("state store", _state_store),
        ("clock", _clock),
        ("unclaimed", _unclaimed),
        ("parked", _parked),
        ("projections", _projections),
        ("webhook tokens", _tokens),
    ]
    if args.deep:
        looks.append(("state", _state))
    checks = [await _looked(ctx, name, look) for name, look in looks]
    return Diagnosis(healthy=all(check.status != "fail" for check in checks), checks=checks)


async def _looked(ctx: Context, name: str, look: Callable[[Context], Awaitable[Check]]) -> Check:
    try:
        async with asyncio.timeout(None if name == "state" else CHECK_WAIT):
            return await look(ctx)
    except TimeoutError:
        return Check(name=name, status="fail", detail=f"no answer within {CHECK_WAIT:.0f} s", remedy="try again")
    except RunwareProviderError as error:
        return Check(name=name, status="fail", detail=str(error), remedy="see the detail")


def _ok(name: str, detail: str) -> Check:
    return Check(name=name, status="ok", detail=detail)


async def _key(ctx: Context) -> Check:
    try:
        await search_models(ctx, SearchModelsArgs(search="flux", limit=1))
    except RunwareRefused as error:
        remedy = "set RUNWARE_API_KEY to a key that Runware accepts, and restart"
        return Check(name="key", status="fail", detail=f"Runware refuses it: {error}", remedy=remedy)
    except RunwareProviderError as error:
        remedy = "check RUNWARE_API_KEY, RUNWARE_PROVIDER_RUNWARE_URL and the way out to it"
        return Check(name="key", status="fail", detail=str(error), remedy=remedy)
    return _ok("key", "Runware accepts it")


async def _public_address(ctx: Context) -> Check:
    name = "public address"
    address = ctx.webhook_url(PROBE_ID)
    if address is None:
        return _ok(name, "none: Runware is asked for results")
    public = ctx.settings.public_url or ""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10), trust_env=False) as session,
            session.post(address, json={"data": []}, allow_redirects=False) as response,
        ):
            status = response.status
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        remedy = "run `serve`, and let RUNWARE_PROVIDER_PUBLIC_URL lead to it from outside"
        return Check(
            name=name, status="fail", detail=f"{public} does not answer: {type(error).__name__}", remedy=remedy
        )
    if status != 200:
        remedy = "something before the service answers instead of it, or another service's secret signs here"
        return Check(name=name, status="fail", detail=f"{public} answered HTTP {status} to a webhook", remedy=remedy)
    return _ok(name, f"a webhook through {public} arrived")


async def _bucket(ctx: Context) -> Check:
    try:
        await ctx.artifacts.probe()
    except StoreUnavailable as error:
        remedy = "make room, mend the rights, or point RUNWARE_PROVIDER_ARTIFACTS_URL elsewhere; images wait meanwhile"
        return Check(name="bucket", status="fail", detail=str(error), remedy=remedy)
    return _ok("bucket", "an object was written, read and removed")


async def _database(ctx: Context) -> Check:
    try:
        await ctx.projection.list(ListArgs(limit=1))
    except RunwareProviderError as error:
        remedy = "mend the database, run `runware-provider migrate`, then `runware-provider replay --all-failed`"
        return Check(name="database", status="fail", detail=str(error), remedy=remedy)
    return _ok("database", "it answers")


async def _state_store(ctx: Context) -> Check:
    name = "state store"
    try:
        await ctx.runtime.ready()
        advice = await ctx.runtime.advice()
    except StateUnavailable as error:
        remedy = "mend it: while it is away, webhooks are answered 503 and nothing is accepted"
        return Check(name=name, status="fail", detail=str(error), remedy=remedy)
    if advice:
        return Check(name=name, status="warn", detail=advice[0], remedy="; ".join(advice[1:]) or "see the detail")
    return _ok(name, "it can commit")


async def _clock(ctx: Context) -> Check:
    if isinstance(ctx.clock, SteadyClock) and abs(ctx.clock.moved()) > SKEW:
        detail = (
            f"it was moved by {ctx.clock.moved().total_seconds():.0f} s since the start; the service goes on as before"
        )
        return Check(name="clock", status="warn", detail=detail, remedy="restart the service, so that it follows")
    skew = None if ctx.runware_client is None else ctx.runware_client.clock_skew
    if skew is None:
        return _ok("clock", "nobody to compare it with")
    if abs(skew) > SKEW:
        detail = f"it is {abs(skew.total_seconds()):.0f} s {'ahead of' if skew > timedelta(0) else 'behind'} Runware's"
        return Check(name="clock", status="warn", detail=detail, remedy="run a time service (NTP) on this machine")
    return _ok("clock", "it agrees with Runware's")


async def _unclaimed(ctx: Context) -> Check:
    count = (await ctx.runtime.stats()).unclaimed
    if count:
        remedy = "`runware-provider reconcile --unclaimed` gives them again; `unclaimed` in the state holds the bodies"
        return Check(name="unclaimed", status="warn", detail=f"{count} deliveries belong to nothing", remedy=remedy)
    return _ok("unclaimed", "no delivery without a home")


async def _parked(ctx: Context) -> Check:
    parked = await ctx.runtime.parked(limit=1)
    if parked:
        detail = (
            f"{(await ctx.runtime.stats()).parked} tasks, the oldest: {parked[0].task} of {parked[0].generation_id}"
        )
        remedy = f"read its reason ({parked[0].error[:120]}), then `runware-provider retry {parked[0].generation_id}`"
        return Check(name="parked", status="warn", detail=detail, remedy=remedy)
    return _ok("parked", "no task was given up")


async def _projections(ctx: Context) -> Check:
    count = (await ctx.runtime.stats()).projection_failed
    if count:
        remedy = "mend the database, then `runware-provider replay --all-failed`"
        return Check(name="projections", status="warn", detail=f"{count} are missing in the database", remedy=remedy)
    return _ok("projections", "the database has everything")


async def _tokens(ctx: Context) -> Check:
    recent = ctx.tally.unauthorized
    now, before = recent.within(60), recent.within(60, ending=60)
    if now > UNAUTHORIZED and now > 2 * before:
        remedy = "somebody guesses, or a secret was changed without keeping the previous one in WEBHOOK_SECRET"
        detail = f"{now} deliveries with a wrong token in the last hour, {before} in the one before"
        return Check(name="webhook tokens", status="warn", detail=detail, remedy=remedy)
    return _ok("webhook tokens", f"{now} wrong ones in the last hour")


async def _state(ctx: Context) -> Check:
    problems = await ctx.runtime.check()
    if problems:
        remedy = "stop the service, restore state.db from a backup, start again; nothing was overwritten"
        return Check(name="state", status="fail", detail="; ".join(problems[:5]), remedy=remedy)
    return _ok("state", "every page and every generation can be read")
