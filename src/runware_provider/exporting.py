"""Where a process of ours sends its traces: to the collector that OpenTelemetry's own variables name."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from runware_provider.logs import get_logger
from runware_provider.tracing import use

log = get_logger()

FLUSH = 1.0
"""Seconds that spans which are still queued get at a stop, after everything else has had its time."""


@contextmanager
def exporting() -> Iterator[None]:
    """In a process that is ours: while the block runs, spans go where the environment says (`OTEL_...`), if it does.

    They wait in a bounded queue; those beyond it are dropped. At the end what is queued gets `FLUSH` seconds. That
    traces cannot be sent is said in the log and stops nothing.
    """
    provider = _provider()
    if provider is None:
        yield
        return
    use(provider)
    try:
        yield
    finally:
        use(None)
        # In a thread that may be left behind: a collector that does not answer is waited for much longer.
        ending = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
        ending.start()
        ending.join(FLUSH)


def _provider() -> Any:
    """The provider of the SDK that the environment asks for; None when it asks for none, or in vain."""
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    wanted = exporter or _variable("ENDPOINT")
    if not wanted or exporter == "none" or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if exporter not in {"", "otlp"}:
        return _in_vain("OTEL_TRACES_EXPORTER can be otlp or none here")
    if (_variable("PROTOCOL") or "http/protobuf") != "http/protobuf":
        return _in_vain("OTEL_EXPORTER_OTLP_PROTOCOL can be http/protobuf here, whose usual port is 4318")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        return _in_vain("what sends traces is not installed: pip install 'runware-provider[otel]'")
    # It would show a header that it cannot read, and headers hold the collector's key.
    logging.getLogger("opentelemetry.util.re").setLevel(logging.ERROR)
    named = Resource.create()
    ours = {"service.version": version("runware-provider")}
    if str(named.attributes.get("service.name", "unknown")).startswith("unknown"):
        ours["service.name"] = "runware-provider"
    try:
        provider = TracerProvider(resource=named.merge(Resource(ours)), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except ValueError as error:
        return _in_vain(str(error)[:300])
    return provider


def _variable(name: str) -> str:
    """A variable of the OTLP exporter: that for traces, else that for everything."""
    both = (f"OTEL_EXPORTER_OTLP_TRACES_{name}", f"OTEL_EXPORTER_OTLP_{name}")
    return next((os.environ[each].strip() for each in both if os.environ.get(each, "").strip()), "")


def _in_vain(reason: str) -> None:
    log.warning("traces_not_sent", reason=reason)
