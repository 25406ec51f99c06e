"""Structured logs: this package's own go through the standard library, so that an application decides what it shows.

`configure` is for a process that is ours: readable lines on a terminal, JSON elsewhere, to stderr. structlog is
imported with the first line that is written: it takes 0.1 s, and 10 MB for tracebacks that we do not print.
"""

import logging
import sys
from functools import lru_cache
from typing import Any

NAME = "runware_provider"


def get_logger() -> Any:
    """The package's logger: `log.warning("event", id=...)`. Never given a prompt, a key, a token or a query string."""
    return _Logger()


def configure(level: int = logging.INFO) -> None:
    """Write this process's logs to stderr from `level` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(readable=sys.stderr.isatty()))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(NAME).setLevel(level)


class _Logger:
    def __getattr__(self, name: str) -> Any:
        return getattr(_wrapped(), name)


@lru_cache(1)
def _wrapped() -> Any:
    import structlog

    return structlog.wrap_logger(
        logging.getLogger(NAME),
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


class _Formatter(logging.Formatter):
    def __init__(self, *, readable: bool) -> None:
        super().__init__()
        self._readable = readable

    def format(self, record: logging.LogRecord) -> str:
        return _formatter(self._readable).format(record)


@lru_cache(2)
def _formatter(readable: bool) -> logging.Formatter:
    import structlog

    renderer = structlog.dev.ConsoleRenderer() if readable else structlog.processors.JSONRenderer()
    return structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ],
        foreign_pre_chain=[
            structlog.stdlib.ExtraAdder(),
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
    )
