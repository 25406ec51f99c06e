"""What Prometheus is told: after a real run the numbers add up, and nobody's words are in them."""

import re
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from runware_provider.durable.postgres_schema import migrate
from runware_provider.projection import migrate as migrate_read_model
from runware_provider.serving import bind, serving
from tests.conformance.builders import idle
from tests.postgres import postgres_server
from tests.service import JsonObject, Service, a_context, a_service, eventually, images, locked, objects

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "monitor.md"
PREFIX = "runware_provider_"

Series = dict[tuple[str, ...], float]


def read(text: str) -> Series:
    """Every sample by its name without the prefix, and the values of its labels in order of their names."""
    return {
        (sample.name.removeprefix(PREFIX), *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scraped(service: Service, **headers: str) -> Series:
    """What `service` tells now."""
    answer = await service.get("/metrics", headers=headers)
    assert answer.status == 200
    return read(answer.body.decode())


def of(series: Series, name: str) -> dict[tuple[str, ...], float]:
    """The samples of one name that are not 0, by their labels."""
    return {key[1:]: value for key, value in series.items() if key[0] == name and value}


async def at_rest(service: Service) -> None:
    """Wait until no task is left."""
    await eventually(lambda: idle(service.ctx.runtime))


async def test_after_a_run_the_numbers_add_up(tmp_path: Path) -> None:
    """With what Runware billed and delivered, what lies in the store, and what clients were answered."""
    async with a_service(tmp_path) as service:
        assert service.simulator is not None
        for _ in range(3):
            await service.made(numberResults=2)
        again = [await service.create(key="once") for _ in range(2)]
        await service.settled(again[0].id)
        for token in ("", "wrong"):
            await service.deliver(uuid4(), {"data": []}, token=token or "x")
        await service.deliver(uuid4(), {"data": []})
        await at_rest(service)
        totals = service.simulator.ledger.totals
        await eventually(lambda: totals.webhooks_confirmed == 7)
        series = await scraped(service)

    delivered = totals.webhooks_confirmed + 1
    assert of(series, "webhook_answers_total") == {("200",): delivered, ("401",): 2}
    assert series["webhook_acknowledgement_seconds_count",] == delivered
    assert series["webhook_acknowledgement_seconds_bucket", "+Inf"] == delivered
    assert 0 < series["webhook_acknowledgement_seconds_sum",] < delivered
    assert series["generations_created_total",] == 4
    assert of(series, "generations_ended_total") == {("completed",): 4}
    tasks = of(series, "tasks_total")
    projected = tasks.pop(("Project", "projected"))
    assert projected >= 4
    assert tasks == {("Dispatch", "accepted"): 4, ("StoreOutput", "stored"): 7}
    assert of(series, "task_duration_seconds_count") == {
        ("Dispatch",): 4,
        ("StoreOutput",): 7,
        ("Project",): projected,
    }
    assert series["stored_bytes_total",] == sum(path.stat().st_size for path in objects(tmp_path)) > 0
    assert series["spent_today_dollars",] * 1_000_000 == pytest.approx(totals.cost_micros)
    assert series["deliveries_unclaimed",] == 1
    assert series["up",] == 1
    nothing = ("generations_running", "generations_projection_failed", "tasks_parked", "oldest_task_age_seconds")
    assert [series[name,] for name in nothing] == [0, 0, 0, 0]
    assert of(series, "tasks_open") == of(series, "requests_refused_total") == {}


async def test_what_fails_is_counted_by_what_it_was(tmp_path: Path) -> None:
    """Refused for now and then accepted, refused for good; not given by the CDN, no image, and then kept."""
    async with a_service(
        tmp_path,
        {"on": "dispatch", "do": "status", "status": 503, "nth": [1], "retry_after": 0},
        {"on": "cdn", "do": "status", "status": 404, "nth": [1]},
        {"on": "cdn", "do": "html", "nth": [2]},
    ) as service:
        state = await service.made(numberResults=2)
        refused = await service.settled((await service.create(width=100)).id)
        await at_rest(service)
        series = await scraped(service)

    assert (len(images(state)), refused.status) == (2, "failed")
    tasks = {key: value for key, value in of(series, "tasks_total").items() if key[0] != "Project"}
    assert tasks == {
        ("Dispatch", "accepted"): 1,
        ("Dispatch", "refused_for_now"): 1,
        ("Dispatch", "refused"): 1,
        ("StoreOutput", "fetch_failed"): 1,
        ("StoreOutput", "content_rejected"): 1,
        ("StoreOutput", "stored"): 2,
    }
    assert of(series, "generations_ended_total") == {("completed",): 1, ("failed",): 1}
    assert series["stored_bytes_total",] == sum(image.size_bytes for image in images(state))


async def test_what_waits_is_shown_with_its_age(tmp_path: Path) -> None:
    """Before it is done: an image that the CDN does not give."""
    async with a_service(tmp_path, {"on": "cdn", "do": "hang", "seconds": 1.0, "nth": [1]}) as service:
        state = await service.create()

        async def waits() -> bool:
            return of(await scraped(service), "tasks_open") == {("StoreOutput",): 1}

        await eventually(waits)
        series = await scraped(service)
        await service.settled(state.id)

    assert series["generations_running",] == 1
    assert 0 < series["oldest_task_age_seconds",] < 10
    assert series["spent_today_dollars",] > 0


async def test_a_store_that_cannot_commit_is_down_and_the_rest_is_told(tmp_path: Path) -> None:
    """The scrape itself goes on: that is when it is looked at."""
    async with a_service(tmp_path) as service:
        await service.made()
        with locked(tmp_path / "data" / "state.db"):
            assert (await service.deliver(uuid4(), {"data": []})).status == 503
            down = await scraped(service)
        up = await scraped(service)

    assert (down["up",], up["up",]) == (0, 1)
    assert of(down, "webhook_answers_total") == {("200",): 1, ("503",): 1}
    assert down["generations_created_total",] == 1


async def test_without_the_database_the_process_tells_what_it_knows(tmp_path: Path) -> None:
    """And nothing of what it knew of the state: an old number would be a lie."""
    read_model = f"sqlite:///{tmp_path}/projection.db"
    with postgres_server() as server:
        url = server.url(server.create_database())
        await migrate(url)
        await migrate_read_model(read_model)
        async with a_service(tmp_path, state_url=url, projection_url=read_model, work=False) as service:
            before = await scraped(service)
            await service.deliver(uuid4(), {"data": []}, token="wrong")
            server.stop()
            try:
                after = await scraped(service)
            finally:
                server.start()

    assert (before["up",], after["up",]) == (1, 0)
    assert of(after, "webhook_answers_total") == {("401",): 1}
    gone = {key[0] for key in before.keys() - after.keys()}
    assert gone == {
        "generations_running",
        "generations_projection_failed",
        "generations_ended_total",
        "tasks_open",
        "oldest_task_age_seconds",
        "tasks_parked",
        "deliveries_unclaimed",
        "spent_today_dollars",
    }


async def test_a_token_is_asked_for_like_everywhere_else(tmp_path: Path) -> None:
    """Whoever reads it knows how much is spent. What the guard refuses is counted."""
    async with a_service(tmp_path, client_tokens=(SecretStr("a-client-token"),)) as service:
        without, wrong = (
            await service.get("/metrics"),
            await service.get("/metrics", headers={"Authorization": "Bearer x"}),
        )
        right = await service.get("/metrics", headers={"Authorization": "Bearer a-client-token"})
        long = await service.get("/v1/generations?status=" + "x" * 9_000)

        assert (without.status, wrong.status, right.status, long.status) == (401, 401, 200, 431)
        assert right.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        series = await scraped(service, Authorization="Bearer a-client-token")
    assert of(series, "requests_refused_total") == {("401",): 2, ("431",): 1}


async def test_a_page_of_somebody_else_cannot_read_them(tmp_path: Path) -> None:
    """Without tokens only who names this machine is answered, as with the client API."""
    async with a_service(tmp_path) as service:
        assert (await service.get("/metrics", headers={"Host": "evil.example"})).status == 403


async def test_a_process_that_only_works_serves_its_health_and_nothing_else(tmp_path: Path) -> None:
    """Behind the same guard; the client API is with others."""
    token = {"Authorization": "Bearer a-client-token"}
    async with a_context(tmp_path, client_tokens=(SecretStr("a-client-token"),)) as ctx:
        with bind("127.0.0.1", 0) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with serving(ctx, listener, health_only=True), aiohttp.ClientSession() as session:
                service = Service(ctx, url, session)
                answers = {
                    path: await service.get(path) for path in ("/healthz", "/readyz", "/metrics", "/v1/generations")
                }
                others = ("/v1/generations", "/v1/doctor", "/openapi.json", "/docs")
                missing = [(await service.get(path, headers=token)).problem["status"] for path in others]
                delivered = await service.deliver(uuid4(), {"data": []})
                series = await scraped(service, **token)

    assert {path: answer.status for path, answer in answers.items()} == {
        "/healthz": 200,
        "/readyz": 200,
        "/metrics": 401,
        "/v1/generations": 401,
    }
    assert (missing, delivered.status) == ([404] * 4, 404)
    assert series["up",] == 1


async def test_each_context_counts_for_itself(tmp_path: Path) -> None:
    """An application may have several, and metrics of its own, which stay its own."""
    before = {family.name for family in REGISTRY.collect()}
    async with a_service(tmp_path / "one") as one, a_service(tmp_path / "other") as other:
        await one.made()

        assert (await scraped(one))["generations_created_total",] == 1
        assert (await scraped(other))["generations_created_total",] == 0
    assert before == {family.name for family in REGISTRY.collect()}


async def test_the_series_are_the_same_whatever_is_asked_for(tmp_path: Path) -> None:
    """No label is anybody's choice, and no secret or prompt, id or model comes out."""
    secrets: JsonObject = {
        "runware_api_key": SecretStr("a-planted-key"),
        "webhook_secret": (SecretStr("a-planted-webhook-secret"),),
    }
    rules = ({"on": "cdn", "do": "status", "status": 404, "nth": [1]},)
    async with a_service(tmp_path, *rules, **secrets) as service:
        before = await service.get("/metrics")
        state = await service.made(
            positivePrompt="a planted prompt", metadata={"a-label": "planted"}, model="civitai:1@2"
        )
        await service.deliver(state.id, b"planted", token="a-planted-token")
        await service.deliver(uuid4(), b"planted")
        await at_rest(service)
        after = await service.get("/metrics")
        token = service.ctx.tokens.token(state.id)

    text = after.body.decode()
    assert read(before.body.decode()).keys() == read(text).keys()
    assert [word for word in ("planted", "civitai", str(state.id), token) if word in text] == []


async def test_names_are_those_that_the_page_explains(tmp_path: Path) -> None:
    """Each with its type, and the words of the labels; and each says what it is in the answer, too."""
    async with a_service(tmp_path) as service:
        text = (await service.get("/metrics")).body.decode()

    told: dict[str, str] = dict(re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE))
    helped = re.findall(r"^# HELP (\S+) \S.+$", text, re.MULTILINE)
    page = PAGE.read_text()
    explained = dict(re.findall(r"^\| `(runware_provider_\w+)` \| (\w+) \|", page, re.MULTILINE))
    assert explained == {name: kind for name, kind in told.items() if name.startswith(PREFIX)}
    assert sorted(helped) == sorted(told)
    assert {kind for name, kind in told.items() if name.endswith("_total")} == {"counter"}
    assert not [name for name in told if name.endswith("_created")]
    for labels in read(text):
        for word in labels[1:] if labels[0] == "tasks_total" else ():
            assert f"`{word}`" in page, word
    used = set(re.findall(r"runware_provider_\w+", page))
    series = {key[0] for key in read(text)}
    assert {name for name in used if name.removeprefix(PREFIX) not in series} - told.keys() == set()
