"""Reads a whole state file and says what in it cannot be read."""

import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import UUID

from runware_provider.errors import RunwareProviderError
from runware_provider.register import decode, decode_request

MAX_PROBLEMS = 100


def check_file(path: Path) -> list[str]:
    """Every page by SQLite's own check, then every generation. Blocking; a connection of its own, read-only."""
    problems: list[str] = []
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as reader:
            found = [row[0] for row in reader.execute(f"PRAGMA integrity_check({MAX_PROBLEMS})")]
            problems += [str(each) for each in found if each != "ok"]
            rows = reader.execute("SELECT id, register, request FROM generations JOIN requests USING (number)")
            for generation_id, register, request in rows:
                try:
                    decode(register)
                    decode_request(request)
                except RunwareProviderError as error:
                    problems.append(f"generation {UUID(bytes=generation_id)}: {error}")
                    if len(problems) >= MAX_PROBLEMS:
                        break
    except sqlite3.Error as error:
        problems.append(f"{path.name}: {error}")
    return problems
