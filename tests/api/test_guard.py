"""Who may ask: client tokens, or this machine only, or the owner's own socket."""

import json
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr

from runware_provider.durable.owner import read_owner
from tests.api.conftest import undocumented
from tests.service import Service, a_service, an_input, born

TOKENS = (SecretStr("first-client-token"), SecretStr("second-client-token"))


def routes(service: Service, generation_id: str) -> Iterator[tuple[str, str]]:
    """Every documented route of the client API that needs a token."""
    for path, operations in service.app.openapi()["paths"].items():  # type: ignore[union-attr]  # it is FastAPI
        if path not in {"/healthz", "/readyz", "/webhooks/runware"}:
            for method in operations:
                yield method.upper(), path.format(generation_id=generation_id, output_id=generation_id)


async def test_without_a_token_no_route_answers(tmp_path: Path) -> None:
    """401 with the way to sign in, before anything is read or done; also for paths that do not exist."""
    async with a_service(tmp_path, work=False, client_tokens=TOKENS, runware_url="http://127.0.0.1:9/v1") as service:
        state = await born(service.ctx)
        asked = [*routes(service, str(state.id)), ("GET", "/openapi.json"), ("GET", "/docs"), ("GET", "/nothing")]
        for method, path in asked:
            answer = await service.ask(method, path)
            assert answer.status == 401, (method, path)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.problem["detail"]

        assert len(asked) > 12
        assert await service.ctx.runtime.get_state(state.id) == state
        assert undocumented(service) == []


async def test_a_wrong_token_is_none(tmp_path: Path) -> None:
    """Another scheme, a part of it, two of them, another case, no text at all."""
    async with a_service(tmp_path, work=False, client_tokens=TOKENS, runware_url="http://127.0.0.1:9/v1") as service:
        for wrong in (
            "Bearer",
            "Bearer ",
            "Bearer wrong",
            "Bearer first-client-toke",
            "Bearer first-client-tokenx",
            "Bearer FIRST-CLIENT-TOKEN",
            "Bearer first-client-token,second-client-token",
            "Bearer first-client-token second-client-token",
            "Basic first-client-token",
            "Basic Zmlyc3QtY2xpZW50LXRva2VuOg==",
            "first-client-token",
            "Bearer é",
            "Bearer " + "x" * 4_000,
        ):
            answer = await service.get("/v1/generations", headers={"Authorization": wrong})
            assert answer.status == 401, wrong
            assert "first-client-token" not in answer.body.decode()
        in_the_query = await service.get("/v1/generations?token=first-client-token&access_token=first-client-token")
        assert in_the_query.status == 401


async def test_every_token_opens_the_door(tmp_path: Path) -> None:
    """So that one can be replaced without a gap; the scheme's case does not matter, and the host neither."""
    async with a_service(tmp_path, client_tokens=TOKENS) as service:
        for right in ("Bearer first-client-token", "bearer second-client-token", "BEARER  first-client-token "):
            answer = await service.get("/v1/generations", headers={"Authorization": right, "Host": "images.example"})
            assert answer.status == 200, right
        service.headers = {"Authorization": "Bearer first-client-token"}
        created = await service.post("/v1/generations", json={"input": an_input()}, headers={"Prefer": "wait=10"})
        assert created.json["status"] == "completed"


async def test_a_client_without_a_token_cannot_make_us_read_its_body(tmp_path: Path) -> None:
    """It is refused before the limit is even looked at."""
    async with a_service(tmp_path, work=False, client_tokens=TOKENS, runware_url="http://127.0.0.1:9/v1") as service:
        answer = await service.post("/v1/generations", data=b"x" * 100_000)

        assert answer.status == 401


async def test_whether_it_lives_can_be_asked_without_a_token(tmp_path: Path) -> None:
    """By a load balancer, which has none; Runware's webhook has its own."""
    async with a_service(tmp_path, client_tokens=TOKENS) as service:
        assert (await service.get("/healthz")).json == {"status": "ok"}
        assert (await service.get("/readyz")).status == 200
        assert (await service.post("/webhooks/runware")).status == 401
        state = await service.made()
        assert service.billed(state) == 1


async def test_paths_that_only_resemble_the_open_ones_are_closed(tmp_path: Path) -> None:
    """No trick with slashes, case or encoding leads past the guard."""
    async with a_service(tmp_path, work=False, client_tokens=TOKENS, runware_url="http://127.0.0.1:9/v1") as service:
        for path in (
            "/healthz/",
            "/healthz/../v1/generations",
            "/HEALTHZ",
            "/healthz%2f",
            "//v1/generations",
            "/v1/healthz",
        ):
            async with service.session.get(service.url + path, allow_redirects=False) as answer:
                assert answer.status in {401, 404, 307}, path
                assert b"items" not in await answer.read()


async def test_without_tokens_only_this_machine_is_answered(service: Service) -> None:
    """By the name it calls us: a web page whose name resolves to 127.0.0.1 (DNS rebinding) calls us by its own."""
    for host, status in (
        ("127.0.0.1", 200),
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("LocalHost:8000", 200),
        ("[::1]:8000", 200),
        ("127.1.2.3", 200),
        ("evil.example", 403),
        ("evil.example:8000", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("evil.example@127.0.0.1", 403),
        ("127.0.0.1:8000@evil.example", 403),
        ("192.168.1.1", 403),
        ("0.0.0.0", 403),
        ("[2001:db8::1]", 403),
        ("", 403),
    ):
        answer = await service.get("/v1/generations", headers={"Host": host})
        assert answer.status == status, host
        if status == 403:
            assert "CLIENT_TOKENS" in answer.problem["detail"]


async def test_without_tokens_a_foreign_page_cannot_spend_money(service: Service) -> None:
    """What a browser sends without asking first (a form, plain text, no type) is refused; what it asks for, too."""
    body = json.dumps({"input": an_input()}).encode()
    for headers in (
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data"},
    ):
        answer = await service.post("/v1/generations", data=body, headers={"Origin": "https://evil.example", **headers})
        assert answer.status == 403
        assert (await service.post("/v1/generations", data=body, headers=headers)).status == 415
    preflight = await service.ask(
        "OPTIONS",
        "/v1/generations",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
    )
    assert preflight.status >= 400
    assert "access-control-allow-origin" not in preflight.headers
    assert await service.ctx.runtime.ids() == []


def mode(path: str) -> int:
    """Who may do what with a file."""
    return Path(path).stat().st_mode


async def test_the_owners_socket_needs_no_token(tmp_path: Path) -> None:
    """Only the user who owns the data directory can open it: that is who the commands run as."""
    async with a_service(tmp_path, client_tokens=TOKENS) as service:
        announced = read_owner(tmp_path / "data")
        assert announced is not None
        assert announced["url"] == service.url
        assert mode(announced["socket"]) & 0o077 == 0
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(announced["socket"])) as session,
            session.get("http://anything/v1/generations") as answer,
        ):
            assert answer.status == 200


async def test_the_owners_socket_has_the_same_limits(tmp_path: Path) -> None:
    """Trusted is not unlimited."""
    async with a_service(tmp_path, max_request_bytes=1_000) as service:
        announced = read_owner(service.ctx.settings.data_dir)
        assert announced is not None
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(announced["socket"])) as session,
            session.post("http://anything/v1/generations", data=b"x" * 1_001) as answer,
        ):
            assert answer.status == 413


@pytest.mark.parametrize("text", [repr(TOKENS), str(TOKENS)])
def test_tokens_are_not_shown(text: str) -> None:
    """Settings end in logs."""
    assert "client-token" not in text
