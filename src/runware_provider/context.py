"""Context: the settings and everything they open. Wiring is here and nowhere else."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from runware_provider.artifacts import Artifacts, BucketAccess
from runware_provider.clock import SteadyClock
from runware_provider.durable import Clock, GenerationRuntime, TaskKind
from runware_provider.durable.engines import open_runtime
from runware_provider.durable.owner import Owner
from runware_provider.errors import ConfigurationError
from runware_provider.metrics import Metrics
from runware_provider.processing import Processing
from runware_provider.projection import D1Access, Projection, ProjectionWriter
from runware_provider.runware import RunwareClient
from runware_provider.schedule import Policy
from runware_provider.sessions import ClientTokens, Sessions
from runware_provider.settings import Settings, check_settings, load_settings
from runware_provider.tally import Tally
from runware_provider.tokens import WebhookTokens
from runware_provider.tracing import use_global

DISPATCHES = 32
PROJECTIONS = 256
PURGES = 4
STOP_GRACE = 6.0
"""Seconds that running tasks get to finish at a stop, after connections have had theirs: under ten in all."""


@dataclass(frozen=True, slots=True)
class Context:
    """What every exported function takes first. Made by `Context.open`; belongs to one event loop."""

    settings: Settings
    clock: Clock
    runtime: GenerationRuntime
    artifacts: Artifacts
    projection: Projection
    projection_writer: ProjectionWriter
    tokens: WebhookTokens
    owner: Owner
    runware_client: RunwareClient | None
    tally: Tally
    metrics: Metrics
    client_tokens: ClientTokens
    sessions: Sessions

    @property
    def runware(self) -> RunwareClient:
        """The API. Raises ConfigurationError when there is no key for it."""
        if self.runware_client is None:
            raise ConfigurationError("RUNWARE_API_KEY is not set: get a key from Runware and export it")
        return self.runware_client

    def webhook_url(self, generation_id: UUID) -> str | None:
        """The address that Runware is given for one generation; None when results are asked for instead."""
        settings = self.settings
        if settings.delivery_mode == "poll" or settings.public_url is None:
            return None
        return self.tokens.webhook_url(settings.public_url, generation_id)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: Settings | None = None,
        *,
        work: bool = True,
        apart: bool = False,
        takeover_wait: float = 0.0,
        clock: Clock | None = None,
    ) -> AsyncIterator["Context"]:
        """Open everything, take up what an earlier process left, and close it all at the end.

        `settings`: from the environment when None. `work`: False performs no tasks. `apart`: images are kept in a
        process of their own. `takeover_wait`: seconds to wait for another owner of the data directory to go.

        Raises ConfigurationError, DataDirInUse, StateTooNew.
        """
        if settings is None:
            settings = load_settings()
        clock = clock or SteadyClock()
        check_settings(settings)
        async with AsyncExitStack() as stack:
            owner = await asyncio.to_thread(_own, settings, takeover_wait)
            stack.callback(owner.release)
            policy = Policy(
                delivery=settings.delivery_mode,
                patience=settings.patience,
                store_patience=settings.store_patience,
                retention=settings.retention,
            )
            runtime = await open_runtime(settings.state_address, policy, clock)
            stack.push_async_callback(runtime.stop, grace=0.0)  # when what follows cannot be opened
            artifacts = await Artifacts.open(
                settings.artifacts_address,
                data_dir=owner.data_dir.absolute(),
                image_hosts=settings.image_hosts,
                max_image_bytes=settings.max_image_bytes,
                bucket_access=BucketAccess(
                    settings.s3_endpoint,
                    settings.s3_region,
                    settings.s3_access_key_id,
                    settings.s3_secret_access_key,
                ),
                concurrency=settings.concurrency,
                apart=apart,
                lock=owner.descriptor,
            )
            stack.push_async_callback(artifacts.aclose)
            projection = await Projection.open(
                settings.projection_address,
                migrate=settings.projection_url is None and not settings.many_nodes,
                d1=d1_access(settings),
            )
            stack.push_async_callback(projection.aclose)
            writer = ProjectionWriter(projection)
            stack.push_async_callback(writer.aclose)
            client = None
            if settings.runware_api_key is not None:
                client = RunwareClient(settings.runware_url, settings.runware_api_key.get_secret_value(), clock)
                stack.push_async_callback(client.close)
            worker: Processing | None = None

            async def stop() -> None:
                # The runtime first: its tasks use all the rest.
                await runtime.stop(grace=STOP_GRACE)
                if worker is not None:
                    await worker.close()

            stack.push_async_callback(stop)
            tokens = WebhookTokens(await _webhook_secrets(settings, runtime))
            tally, metrics = Tally(clock), Metrics()
            clients = ClientTokens([token.get_secret_value() for token in settings.client_tokens])
            sessions = Sessions(await runtime.secret("session", _new_secret), clients, clock)
            context = cls(
                settings,
                clock,
                runtime,
                artifacts,
                projection,
                writer,
                tokens,
                owner,
                client,
                tally,
                metrics,
                clients,
                sessions,
            )
            use_global()
            if work:
                worker = Processing(context, context.webhook_url)
                runtime.start(worker, slots=_slots(settings, may_dispatch=client is not None))
            yield context


def d1_access(settings: Settings) -> D1Access:
    """What a read model at `d1://` needs."""
    token = settings.d1_token
    return D1Access(token.get_secret_value() if token else None, settings.d1_url)


def _slots(settings: Settings, *, may_dispatch: bool) -> Mapping[TaskKind, int]:
    return {
        "Dispatch": DISPATCHES if may_dispatch else 0,  # without a key they wait for a start with one
        "StoreOutput": settings.concurrency,
        "Project": PROJECTIONS,
        "Purge": PURGES,
    }


def _own(settings: Settings, wait: float) -> Owner:
    """The folder that is this process's alone."""
    return Owner.acquire_node(settings.data_dir) if settings.many_nodes else Owner.acquire(settings.data_dir, wait=wait)


async def _webhook_secrets(settings: Settings, runtime: GenerationRuntime) -> list[str]:
    # The one we made stays accepted when the operator sets his own: addresses made with it are still out.
    kept = await runtime.secret("webhook", _new_secret)
    return [*(secret.get_secret_value() for secret in settings.webhook_secret), kept]


def _new_secret() -> str:
    return secrets.token_urlsafe(32)
