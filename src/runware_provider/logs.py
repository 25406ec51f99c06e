"""Structured logs: this package's own go through the standard library, so that an application decides what it shows.

`configure` is for a process that is ours: readable lines on a terminal, JSON elsewhere, to stderr.
"""

import logging
import sys
from typing import Any

import structlog

NAME = "runware_provider"


def get_logger() -> Any:
    """The package's logger: `log.warning("event", id=...)`. Never given a prompt, a key, a token or a query string."""
    return structlog.wrap_logger(
        logging.getLogger(NAME),
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def configure(level: int = logging.INFO) -> None:
    """Write this process's logs to stderr from `level` on."""
    readable = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if readable else structlog.processors.JSONRenderer()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
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
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(NAME).setLevel(level)
