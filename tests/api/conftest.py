"""A service for each test, and the check that it documents every answer it gave."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from tests.service import Service, a_service


def undocumented(service: Service) -> list[str]:
    """The answers of `service` that its OpenAPI document does not know. A method that a path has not is no answer."""
    assert isinstance(service.app, FastAPI)
    paths: dict[str, Any] = service.app.openapi()["paths"]
    missing = []
    for method, asked, status in sorted(service.seen):
        path = asked.partition("?")[0]
        for template, operations in paths.items():
            operation = operations.get("get" if method == "HEAD" else method.lower())
            if operation and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
                if str(status) not in operation["responses"]:
                    missing.append(f"{method} {template}: {status}")
                break
    return missing


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A service with a simulator that is quick and well."""
    async with a_service(tmp_path) as running:
        yield running
        assert undocumented(running) == []
