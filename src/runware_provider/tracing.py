"""Traces with OpenTelemetry, when it is there and somebody listens; next to nothing otherwise.

The trace id of everything about one generation is the generation's own id. So the spans of processes that never spoke
to each other, days apart, belong to one trace, and nothing has to be stored for it. The span that made the generation
is the root, and its span id too follows from the id: every other span is its child.

Attributes are ours alone: numbers, ids and codes. Never a prompt, an address, a header or an exception's text.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from types import TracebackType
from typing import Any, Protocol, Self
from uuid import UUID

INSTALLED = True
try:
    from opentelemetry import context, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:  # nobody needs it to make images
    INSTALLED = False

SCOPE = "runware_provider"

_SPAN_BITS = (1 << 64) - 1
_SPREAD = 0x9E37_79B9_7F4A_7C15
"""2^64 divided by the golden ratio: times this, neighbours come to lie far apart."""

_QUERIES = ("url.query", "url.full", "http.url", "http.target")
"""Where instrumentations of web frameworks put the query of a request, by the present and the former conventions."""


class Span(Protocol):
    """A stretch of work on one generation, ended by leaving the block; an exception that leaves it marks it failed.

    `recording`: somebody listens, so that it is worth finding out what to note.
    """

    recording: bool

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
    def note(self, **attributes: str | float | bool) -> None:
        """Add what became known meanwhile."""

    def failed(self, code: str) -> None:
        """Mark it failed, for a reason that is one of few."""


class _Nothing:
    """A span that nobody listens to."""

    __slots__ = ()
    recording = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, **attributes: str | float | bool) -> None:
        """See `Span.note`."""

    def failed(self, code: str) -> None:
        """See `Span.failed`."""


_NOTHING = _Nothing()
_tracer: Any = None
_root: ContextVar[UUID | None] = ContextVar("runware_provider_root", default=None)


def span(
    name: str,
    generation_id: UUID,
    *,
    began: int | None = None,
    first: bool = False,
    linked: bool = False,
    **attributes: str | float | bool,
) -> Span:
    """A span of the trace of one generation.

    `began`: when, in nanoseconds since 1970; now when None. `first`: the one that makes the generation, the root of
    its trace. `linked`: with a link to the span that is current, of the caller or of the client (see `incoming`).
    """
    if _tracer is None or not generation_id.int:
        return _NOTHING
    return _Span(name, generation_id, began, first, linked, attributes)


def use(provider: "trace.TracerProvider | None") -> None:
    """Send spans to `provider` from now on; None: to nobody."""
    global _tracer
    _tracer = None if provider is None else _ours(provider.get_tracer(SCOPE, version("runware-provider")))


def use_global() -> None:
    """Send spans to the provider that the application has set, if it has, and unless `use` named another."""
    if not INSTALLED or _tracer is not None:
        return
    provider = trace.get_tracer_provider()
    if not isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        use(provider)


def listening() -> bool:
    """Whether anybody gets spans."""
    return _tracer is not None


@contextmanager
def incoming(traceparent: str | None) -> Iterator[None]:
    """While this lasts, the span that a client named in its `traceparent` header is the current one."""
    if _tracer is None or traceparent is None:
        yield
        return
    named = TraceContextTextMapPropagator().extract({"traceparent": traceparent}, context.Context())
    token = context.attach(named)
    try:
        yield
    finally:
        context.detach(token)


def hide_query() -> None:
    """Take the query off the current span, which a web framework may have made of a request with a secret in it."""
    if not INSTALLED:
        return
    current = trace.get_current_span()
    if current is trace.INVALID_SPAN or not current.is_recording():
        return
    known: Mapping[str, Any] = getattr(current, "attributes", None) or {}
    for name in _QUERIES:
        if name in known:
            current.set_attribute(name, "" if name == "url.query" else str(known[name]).partition("?")[0])


class _Span:
    """A span that is recorded."""

    __slots__ = ("_span", "_token")
    recording = True

    def __init__(
        self,
        name: str,
        generation_id: UUID,
        began: int | None,
        first: bool,
        linked: bool,
        attributes: Mapping[str, str | int | float | bool],
    ) -> None:
        links = _links() if linked else ()
        reset = _root.set(generation_id) if first else None
        try:
            self._span = _tracer.start_span(
                name,
                context.Context() if first else _under(generation_id),
                attributes={f"{SCOPE}.generation_id": str(generation_id)},
                links=links,
                start_time=began,
            )
        finally:
            if reset is not None:
                _root.reset(reset)
        self.note(**attributes)

    def __enter__(self) -> Self:
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        context.detach(self._token)
        if kind is not None and issubclass(kind, Exception):  # else it was cancelled
            self.failed(kind.__name__)
        self._span.end()

    def note(self, **attributes: str | float | bool) -> None:
        """See `Span.note`."""
        for name, value in attributes.items():
            self._span.set_attribute(f"{SCOPE}.{name}", value)

    def failed(self, code: str) -> None:
        """See `Span.failed`."""
        self._span.set_attribute("error.type", code)
        self._span.set_status(trace.StatusCode.ERROR)


def _under(generation_id: UUID) -> "context.Context":
    """A context in which the root of the generation's trace is current, whoever made it, wherever and whenever."""
    root = trace.SpanContext(
        generation_id.int, _root_span(generation_id), is_remote=True, trace_flags=trace.TraceFlags(1)
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(root), context.Context())


def _root_span(generation_id: UUID) -> int:
    return generation_id.int & _SPAN_BITS


def _links() -> "list[trace.Link]":
    """Who asked: the span that is current."""
    asked = trace.get_current_span().get_span_context()
    return [trace.Link(asked)] if asked.is_valid else []


def _ours(tracer: Any) -> Any:
    """A tracer of the SDK, taught to make roots and to draw lots by generation. Of others all spans are children."""
    if hasattr(tracer, "id_generator") and not isinstance(tracer.id_generator, _Ids):
        tracer.id_generator = _Ids(tracer.id_generator)
    if hasattr(tracer, "sampler") and not isinstance(tracer.sampler, _Sampler):
        tracer.sampler = _Sampler(tracer.sampler)
    return tracer


class _Ids:
    """Ids for spans: those of a root follow from its generation."""

    def __init__(self, others: Any) -> None:
        self._others = others

    def generate_trace_id(self) -> int:
        root = _root.get()
        return self._others.generate_trace_id() if root is None else root.int

    def generate_span_id(self) -> int:
        root = _root.get()
        return self._others.generate_span_id() if root is None else _root_span(root)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._others, name)


class _Sampler:
    """Decides for all spans of a generation alike, as the sampler that is set would for a root.

    A sampler by ratio compares the low 64 bits of the trace id with a bound. Those of a UUID begin with 10 and with
    what is the same for all ids of a millisecond: unless they are spread, all generations are taken, or none.
    """

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler

    def should_sample(self, _: Any, trace_id: int, *args: Any, **kwargs: Any) -> Any:
        spread = trace_id & ~_SPAN_BITS | trace_id * _SPREAD & _SPAN_BITS
        return self._sampler.should_sample(context.Context(), spread, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)
