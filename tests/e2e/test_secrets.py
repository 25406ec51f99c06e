"""What must never be seen, and what logs look like, through a whole run with failures."""

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

from runware_provider.tokens import WebhookTokens
from tests.e2e.processes import JsonObject, World, eventually

KEY = "planted-api-key-5f2c"
WRONG_KEY = "wrong-planted-key-77aa"
SECRETS = ["planted-webhook-secret-91d0", "planted-older-secret-a4e7"]
TOKENS = ["planted-client-token-c0de", "planted-other-token-beef"]
PASSWORD = "planted-password-d1ce"
PROMPT = "a planted prompt of a secret garden"

FAULTS: list[JsonObject] = [
    {"on": "dispatch", "do": "status", "status": 503, "nth": [2], "retry_after": 0},
    {"on": "dispatch", "do": "status", "status": 500, "body": "html", "accept": True, "nth": [4]},
    {"on": "dispatch", "do": "status", "status": 401, "nth": [6]},
    {"on": "dispatch", "do": "break", "accept": True, "nth": [8]},
    {"on": "webhook", "do": "malformed", "kind": "not_json", "also": True, "nth": [1]},
    {"on": "webhook", "do": "malformed", "kind": "deep", "also": True, "nth": [2]},
    {"on": "webhook", "do": "foreign", "also": True, "nth": [3]},
    {"on": "result", "do": "error", "nth": [4]},
    {"on": "result", "do": "url", "url": "http://169.254.169.254/{name}?token=x", "nth": [5]},
    {"on": "cdn", "do": "status", "status": 404, "nth": [1]},
    {"on": "cdn", "do": "html", "nth": [2]},
    {"on": "cdn", "do": "status", "status": 503, "nth": [3]},
]


def test_planted_secrets_are_found_nowhere(world: World) -> None:
    """Not in any output, log, state, row or left-over file, whatever fails; nor the tokens made from the secret."""
    world.environ |= {
        "RUNWARE_API_KEY": KEY,
        "RUNWARE_PROVIDER_WEBHOOK_SECRET": ",".join(SECRETS),
        "RUNWARE_PROVIDER_CLIENT_TOKENS": ",".join(TOKENS),
        "RUNWARE_PROVIDER_STORE_PATIENCE": "0.5s",
        "RUNWARE_PROVIDER_DEBUG": "1",
    }
    simulator = world.simulate()
    simulator.stage(*FAULTS)
    service = world.serve_with_webhooks()
    small = {"model": "runware:101@1", "width": 256, "height": 256}
    bodies = [{"input": {"positivePrompt": f"{PROMPT} {number}", **small}} for number in range(8)]
    with ThreadPoolExecutor(8) as pool:  # an outcome that stays unknown is waited for
        answers = list(pool.map(lambda body: service.ask("POST", "/v1/generations", body)[1], bodies))
    with sqlite3.connect(world.data / "projection.db") as database:
        database.execute("CREATE TRIGGER closed BEFORE UPDATE ON generations BEGIN SELECT RAISE(ABORT, 'closed'); END")
    database.close()
    ids = [str(json.loads(each).get("id") or json.loads(each)["generation_id"]) for each in answers]
    eventually(lambda: service.get("/readyz")["tasks"].get("StoreOutput", 0) == 0)
    tokens = [WebhookTokens([secret]).token(UUID(id)) for secret in SECRETS for id in ids]
    queries = ("", f"?generation_id={ids[0]}&token={tokens[-1]}x", f"?generation_id={ids[0]}&token={tokens[0]}")
    answers += [service.ask("POST", f"/webhooks/runware{query}", b"{")[1] for query in queries]
    answers.append(service.ask("GET", f"/v1/generations?token={TOKENS[0]}", Authorization="Bearer nobody")[1])
    answers += [service.ask("GET", path)[1] for path in ("/v1/generations", "/readyz", "/openapi.json", "/docs")]
    answers += [service.ask("GET", f"/v1/generations/{id}{rest}")[1] for id in ids for rest in ("", "/events")]

    for line in (
        ["list"],
        ["show", ids[0]],
        ["show", ids[3], "--json"],
        ["retry", ids[1]],
        ["reconcile", "--unclaimed"],
    ):
        world.run(*line)
    for number, wrong in enumerate(
        (
            {"RUNWARE_PROVIDER_PROJECTION_URL": f"postgresql://me:{PASSWORD}@127.0.0.1:1/db"},
            {"RUNWARE_PROVIDER_PUBLIC_URL": f"https://me:{PASSWORD}@example.com"},
            {"RUNWARE_PROVIDER_STATE_URL": f"mysql://me:{PASSWORD}@127.0.0.1/db"},
            {"RUNWARE_API_KEY": WRONG_KEY},
        )
    ):
        settings: dict[str, Any] = {"RUNWARE_PROVIDER_DATA_DIR": f"other-{number}", **wrong}
        world.run("generate", "x y", **settings)
    service.process.stop()

    planted = [KEY, WRONG_KEY, *SECRETS, *TOKENS, PASSWORD, *tokens]
    said = [(name, text) for name, process in world._running for text in (process.out, process.err)]
    said += [(f"answer {number}", answer.decode("utf-8", "replace")) for number, answer in enumerate(answers)]
    files = [each for each in world.folder.rglob("*") if each.is_file()]
    said += [(str(each.relative_to(world.folder)), each.read_bytes().decode("latin-1")) for each in files]
    assert [(where, secret) for where, text in said for secret in planted if secret in text] == []
    assert any(path.name == "state.db" for path in files)
    assert_logs_are_clean(service.process.err)


def assert_logs_are_clean(logs: str) -> None:
    """JSON, a line each, with a time, a level and an event; no prompt and no query string."""
    lines = [json.loads(line) for line in logs.splitlines()]
    assert lines, "with all these faults something must have been logged"
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    assert PROMPT not in logs
    assert "?generation_id" not in logs
    assert "token=" not in logs


def test_the_secret_that_we_make_ourselves_is_kept_closed(world: World) -> None:
    """In the state store, in a folder and a file that only this user can read; and it stays the same."""
    world.simulate()
    service = world.serve_with_webhooks()
    service.settled(service.create()["id"])
    service.process.stop()

    assert world.data.stat().st_mode & 0o077 == 0
    with sqlite3.connect(world.data / "state.db") as database:
        ((secret,),) = database.execute("SELECT secret FROM secrets WHERE name = 'webhook'").fetchall()
    database.close()
    files = [each for each in world.folder.rglob("*") if each.is_file() and each.name != "state.db"]
    assert [each for each in files if secret.encode() in each.read_bytes()] == []
    assert not any(secret in text for _, process in world._running for text in (process.out, process.err))


def test_a_quiet_run_logs_nothing_but_json(world: World, tmp_path: Path) -> None:
    """A log collector parses every line of stderr."""
    world.simulate()
    service = world.serve_with_webhooks()
    service.settled(service.create(PROMPT)["id"])
    finished = service.process.stop()

    for line in finished.err.splitlines():
        assert json.loads(line)["event"]
    assert PROMPT not in finished.err + finished.out
