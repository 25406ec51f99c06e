"""The form for a new generation: what it asks for, and whose field an error is."""

import json
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from runware_provider.web import forms
from tests.service import Service, a_service, an_input, locked
from tests.web.browser import a_browser, a_visitor

FORM = {"prompt": "a boat", "model": "runware:101@1", "width": "128", "height": "128", "number": "1"}


async def sent(service: Service, **fields: str) -> tuple[int, str]:
    """Status and page, or address, that answer the form."""
    answer = await service.post("/new", data=FORM | fields, allow_redirects=False)
    return answer.status, answer.headers.get("location") or answer.body.decode()


async def test_every_field_goes_to_runware_under_its_own_name(service: Service) -> None:
    """Only what was filled in; what is JSON goes there untouched; labels are ours."""
    status, where = await sent(
        service,
        negative="fog",
        number="2",
        seed="7",
        steps="20",
        format="PNG",
        advanced='{"CFGScale": 3.5}',
        labels="project=postcards\norder = 7",
    )

    assert status == 303
    state = await service.ctx.runtime.get_state(UUID(where[-36:]))
    assert state.input == {
        "positivePrompt": "a boat",
        "negativePrompt": "fog",
        "model": "runware:101@1",
        "width": 128,
        "height": 128,
        "numberResults": 2,
        "seed": 7,
        "steps": 20,
        "outputFormat": "PNG",
        "CFGScale": 3.5,
    }
    assert state.metadata == {"project": "postcards", "order": "7"}


async def test_what_is_left_blank_is_not_sent(service: Service) -> None:
    """Some models refuse a size altogether."""
    _, where = await sent(service, width="", height="", number="")

    state = await service.ctx.runtime.get_state(UUID(where[-36:]))
    assert state.input == {"positivePrompt": "a boat", "model": "runware:101@1"}


async def test_a_form_that_is_sent_twice_is_paid_for_once(service: Service) -> None:
    """A double click, a reload."""
    answers = [await sent(service, key="the-key-of-one-form") for _ in range(2)]

    assert answers[0] == answers[1]
    assert len(await service.ctx.runtime.ids()) == 1


async def test_what_is_wrong_stands_at_its_field_and_nothing_is_lost(service: Service) -> None:
    """Before anything is sent anywhere."""
    for field, value, words in (
        ("prompt", "  ", "Say what is to be pictured"),
        ("width", "wide", "must be a whole number"),
        ("seed", "-1", "must be a whole number"),
        ("number", "9999", "less than or equal to"),
        ("model", " ", "model"),
        ("model", "flux", "Choose one of the list"),
        ("advanced", "{", "This is not JSON"),
        ("advanced", "[1]", "must be an object"),
        ("advanced", '{"seed": 3, "width": 2}', "has a field of its own"),
        ("advanced", '{"taskUUID": "x"}', "is set by runware-provider"),
        ("labels", "postcards", "must be KEY=VALUE"),
    ):
        status, page = await sent(service, negative="keep me", **{field: value})

        assert status == 422, (field, value)
        assert words in page, (field, value)
        assert f'id="bad-{field}"' in page, (field, value)
        assert "keep me" in page
    assert await service.ctx.runtime.ids() == []


async def test_runwares_own_words_stand_at_the_field_that_it_names(service: Service) -> None:
    """As it said them; the generation that it refused is a click away."""
    async with a_browser() as browser, a_visitor(browser, service.url) as visitor:
        page = visitor.page
        await visitor.open("/new")
        await page.get_by_label("Prompt").fill("an odd size")
        await page.get_by_label("Width").fill("1001")
        await page.get_by_role("button", name="Generate").click()
        await page.locator("#bad-width").wait_for()

        assert "steps of 64" in await page.locator("#bad-width").inner_text()
        assert await page.get_by_label("Width").get_attribute("aria-invalid") == "true"
        assert await page.evaluate("document.activeElement.name") == "width"
        assert await page.get_by_label("Prompt").input_value() == "an odd size"
        assert await visitor.violations() == []
        await page.get_by_label("Width").fill("1024")
        await page.get_by_role("button", name="Generate").click()
        await page.wait_for_url("**/#g-*")


async def test_who_cannot_be_served_now_is_told_why(tmp_path: Path) -> None:
    """No budget left, no key: the form stays as it was filled in."""
    async with a_service(tmp_path / "poor", daily_budget=Decimal("0.001")) as service:
        status, page = await sent(service)
        assert status == 402
        assert "budget" in page
    async with a_service(tmp_path / "keyless", runware_api_key=None) as service:
        status, page = await sent(service)
        assert status == 503
        assert "RUNWARE_API_KEY" in page


async def test_what_may_have_been_kept_is_sent_again_under_the_same_key(service: Service, tmp_path: Path) -> None:
    """A state that did not answer may have committed all the same; a new key would buy the images twice."""
    with locked(tmp_path / "data" / "state.db"):
        status, page = await sent(service, key="the-key-of-one-form")
    made = await service.made()
    with locked(tmp_path / "data" / "state.db"):
        again = await service.post(f"/g/{made.id}/remix", data={"key": "another-key"})

    assert (status, again.status) == (503, 503)
    assert 'name="key" value="the-key-of-one-form"' in page
    assert 'name="key" value="another-key"' in again.body.decode()
    assert f'action="/g/{made.id}/remix"' in again.body.decode()


async def test_a_form_has_a_limit(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is as large as that belongs into a request of the API's."""
    assert forms.MAX_BYTES == 1024 * 1024
    monkeypatch.setattr(forms, "MAX_BYTES", 10_000)
    status, page = await sent(service, prompt="x" * 10_001)

    assert status == 422
    assert "send what is so large to the API" in page


async def test_an_id_that_is_none_is_said_to_be_none(service: Service) -> None:
    """Not an error of ours."""
    state = await service.made()

    answer = await service.post(f"/g/{state.id}/rerun", data={"output_id": "foo"})

    assert answer.status == 422
    assert "no output" in answer.body.decode()


async def test_to_vary_is_to_begin_from_what_was_asked(service: Service) -> None:
    """Every field as it was, also those that the form has no place for; sent as it is, it is the same request."""
    asked = an_input(numberResults=2, seed=7, CFGScale=3.5, outputFormat="PNG", lora=[{"model": "a:1@2", "weight": 1}])
    first = await service.made(**asked, metadata={"project": "postcards"})
    async with a_browser() as browser, a_visitor(browser, service.url) as visitor:
        await visitor.open(f"/g/{first.id}")
        await visitor.page.get_by_role("link", name="Vary").click()
        await visitor.page.get_by_role("button", name="Generate").click()
        await visitor.page.wait_for_url("**/#g-*")

    newest = (await service.ctx.runtime.ids())[-1]
    again = await service.ctx.runtime.get_state(newest)
    assert again.id != first.id
    assert (again.input, again.metadata) == (first.input, first.metadata)


async def test_an_image_inside_a_request_is_kept_without_being_shown(service: Service) -> None:
    """It would make a page of megabytes; to vary takes it from where it is."""
    picture = "data:image/png;base64," + "A" * 1_200_000
    first = await service.made(seedImage=picture, strength=0.5)

    for path in (f"/g/{first.id}", f"/g/{first.id}/live", f"/new?from={first.id}", "/"):
        assert len((await service.get(path)).body) < 100_000, path
    async with a_browser() as browser, a_visitor(browser, service.url) as visitor:
        await visitor.open(f"/new?from={first.id}")
        await visitor.page.get_by_text("sent as before: seedImage").wait_for()
        await visitor.page.get_by_label("Prompt").fill("another prompt")
        await visitor.page.get_by_role("button", name="Generate").click()
        await visitor.page.wait_for_url("**/#g-*")

    again = await service.ctx.runtime.get_state((await service.ctx.runtime.ids())[-1])
    assert again.input == first.input | {"positivePrompt": "another prompt"}


async def test_what_is_no_form_is_refused(service: Service) -> None:
    """In a page's words; nothing is made."""
    answer = await service.post("/new", data=json.dumps(FORM), headers={"Content-Type": "application/json"})
    many = await service.post("/new", data={f"f{number}": "x" for number in range(70)})

    assert (answer.status, many.status) == (422, 422)
    assert await service.ctx.runtime.ids() == []
