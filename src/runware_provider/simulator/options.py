"""The simulator's settings: every limit, latency and habit of the Runware it plays."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from runware_provider.simulator.faults import FaultPlan
from runware_provider.simulator.faults.delivery import WebhookErrorShape, WebhookShape
from runware_provider.simulator.faults.rule import Seconds

Rate = Annotated[float, Field(ge=0, le=1)]


def _ascending(span: float | tuple[float, float]) -> float | tuple[float, float]:
    if isinstance(span, tuple) and span[0] > span[1]:
        raise ValueError("the first number must not be above the second")
    return span


Span = Annotated[Seconds | tuple[Seconds, Seconds], AfterValidator(_ascending)]


class SimulatorOptions(BaseModel):
    """What the simulated Runware is like. Durations are seconds; a span is a number or `(least, most)`, drawn from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_keys: frozenset[str] | None = Field(
        None, description="Accepted keys; by default every non-empty key that does not begin with `wrong`."
    )
    seed: int = Field(0, description="Seed of the latencies, of the seeds nobody asked for, and of the rates below.")
    public_url: str | None = Field(
        None, pattern=r"^https?://[^/?#]+$", description="Origin of image URLs; by default that of the request."
    )

    latency: Span = Field((0.05, 0.15), description="From acceptance to the first result.")
    result_spread: Span = Field((0.0, 0.05), description="From each result of a task to the next.")
    webhook_latency: Span = Field((0.0, 0.02), description="From a result to its webhook; shuffles their order.")
    faults: FaultPlan = Field(FaultPlan(), description="The fault plan; can be replaced at run time.")
    error_rate: Rate = Field(0.0, description="Share of results that are errors.")
    webhook_drop_rate: Rate = Field(0.0, description="Share of webhooks that are never sent.")
    dispatch_error_rate: Rate = Field(0.0, description="Share of dispatches refused with 503.")

    unknown_models: Literal["accept", "refuse"] = Field(
        "accept", description="What becomes of an AIR id that is not in the catalogue."
    )
    max_prompt_chars: int = Field(3000, ge=2, le=1_000_000, description="Longest accepted positivePrompt.")
    url_ttl: Seconds = Field(86_400, description="How long an image URL lives when the task sets no `ttl`.")

    image_bytes: int | None = Field(
        None,
        ge=32_768,
        le=1024**3,
        description="Serve plain images of exactly this many bytes instead of drawing (WEBP: rounded down to even).",
    )
    drawing_threads: int = Field(2, ge=1, le=64, description="Pictures drawn at once.")
    cache_bytes: int = Field(64 * 1024**2, ge=0, description="Drawn pictures kept, in bytes.")

    webhook_shape: WebhookShape = Field("data", description="Shape of a webhook with a result.")
    webhook_error_shape: WebhookErrorShape = Field("errors", description="Shape of a webhook with an error.")
    webhook_status: bool = Field(False, description="Whether webhook items carry `status: success`.")
    webhook_timeout: Seconds = Field(5, gt=0, description="How long an answer to a webhook is waited for.")
    webhook_retries: int = Field(10, ge=0, le=1000, description="Deliveries tried after the first.")
    webhook_retry_first: Seconds = Field(0.25, description="First pause before a retry; doubles, with jitter.")
    webhook_retry_cap: Seconds = Field(8, description="Longest pause before a retry.")
    webhook_connections: int = Field(256, ge=1, le=10_000, description="Webhook connections open at once.")
    max_pending_webhooks: int = Field(100_000, ge=1, description="Deliveries on their way; more are dropped, counted.")

    max_running: int = Field(10_000, ge=1, description="Tasks running at once; more are answered 429.")
    remember: int = Field(100_000, ge=1, description="Tasks remembered; the oldest finished ones are forgotten first.")
    max_body_bytes: int = Field(32 * 1024**2, ge=1024, description="Largest request body; more is answered 413.")
    max_tasks: int = Field(100, ge=1, le=10_000, description="Tasks in one request.")


def parse_span(text: str) -> float | tuple[float, float]:
    """A span as typed: `2` or `0.5-2`, in seconds. Raises `ValueError`."""
    least, dash, most = text.strip().partition("-")
    return (float(least), float(most)) if dash else float(least)
