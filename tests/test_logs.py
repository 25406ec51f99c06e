"""Every line about a generation says which."""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from runware_provider.logs import NAME
from tests.service import a_service, eventually

OF_MANY = {"runware_not_answering", "runware_does_not_say"}
"""A question to Runware is about up to 50 at once."""


async def test_every_line_about_a_generation_has_its_id(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever fails: dispatches, images, rows, questions, deliveries that cannot be committed."""
    caplog.set_level(logging.DEBUG, NAME)
    async with a_service(
        tmp_path,
        {"on": "dispatch", "do": "status", "status": 503, "nth": [1], "retry_after": 0},
        {"on": "dispatch", "do": "break", "accept": True, "nth": [2]},
        {"on": "cdn", "do": "html", "nth": [1]},
        {"on": "response", "do": "status", "status": 503, "nth": [1]},
    ) as service:
        with closing(sqlite3.connect(tmp_path / "data" / "projection.db")) as database:
            database.execute("CREATE TRIGGER closed BEFORE UPDATE ON generations BEGIN SELECT RAISE(ABORT, 'no'); END")
        states = [await service.create() for _ in range(2)]
        refused = await service.create(width=100)
        events = ("dispatch_refused", "dispatch_unknown", "image_not_stored", "projection_failed")
        await eventually(lambda: {*events} <= {each.message for each in caplog.records})

    ids = {str(state.id) for state in (*states, refused)}
    lines = [each for each in caplog.records if each.name == NAME and each.message not in OF_MANY]
    assert {str(UUID(str(each.__dict__["id"]))) for each in lines} <= ids
