"""What takes long is run by `make test-slow`, so that `make test` stays bearable; CI runs both."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`slow_over_postgres`: slow with that engine only."""
    for item in items:
        if item.get_closest_marker("slow_over_postgres") and "postgres" in item.name:
            item.add_marker(pytest.mark.slow)
