"""The same again: rerun, remix, undelete, and retry of everything that failed in one way."""

from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from tests.service import Service, a_service, an_input, error_codes, images, until

AT_ONCE = timedelta(milliseconds=1)


async def test_a_rerun_has_the_seeds_that_were_drawn(service: Service) -> None:
    """Nobody asked for a seed the first time: Runware drew one, counted up from it, and so it will again."""
    first = await service.made(numberResults=3, metadata={"project": "postcards"})

    answer = await service.post(f"/v1/generations/{first.id}/rerun")

    assert answer.status == 202
    again = await service.settled(answer.json["id"])
    assert again.id != first.id
    assert answer.headers["location"] == f"/v1/generations/{again.id}"
    assert {image.seed for image in images(again)} == {image.seed for image in images(first)}
    assert {image.sha256 for image in images(again)} == {image.sha256 for image in images(first)}
    assert again.metadata == {"project": "postcards", "rerun_of": str(first.id)}


async def test_a_remix_has_new_seeds(service: Service) -> None:
    """Also when the first one asked for a seed."""
    first = await service.made(seed=7)

    answer = await service.post(f"/v1/generations/{first.id}/rerun", json={"remix": True})

    again = await service.settled(answer.json["id"])
    assert "seed" not in again.input
    assert again.input == {name: value for name, value in first.input.items() if name != "seed"}
    assert images(again)[0].seed != 7


async def test_one_image_of_many_can_be_had_again(service: Service) -> None:
    """With its own seed."""
    first = await service.made(numberResults=3)
    wanted = images(first)[1]

    answer = await service.post(f"/v1/generations/{first.id}/rerun", json={"output_id": str(wanted.id)})

    again = await service.settled(answer.json["id"])
    assert [image.sha256 for image in images(again)] == [wanted.sha256]


async def test_a_rerun_under_one_key_is_paid_for_once(service: Service) -> None:
    """Pressed twice, sent twice: one generation. Another wish under the same key is a conflict."""
    first = await service.made()
    path, key = f"/v1/generations/{first.id}/rerun", {"Idempotency-Key": "again-1"}

    answers = [await service.post(path, headers=key) for _ in range(2)]
    other = await service.post(path, headers=key, json={"remix": True})

    assert [answer.status for answer in answers] == [202, 202]
    assert len({answer.json["id"] for answer in answers}) == 1
    assert other.status == 409


async def test_what_cannot_be_had_again_is_said(tmp_path: Path) -> None:
    """No such generation, no such image, and nothing that says which seeds there were; no money is spent."""
    async with a_service(tmp_path, {"on": "task", "do": "error"}) as service:
        failed = await service.made()
        asked = f"/v1/generations/{failed.id}/rerun"

        assert (await service.post(f"/v1/generations/{uuid4()}/rerun")).status == 404
        assert (await service.post(asked, json={"output_id": str(uuid4())})).status == 404
        unknown = await service.post(asked)
        assert unknown.status == 409
        assert "remix" in unknown.problem["detail"]
        assert (await service.post(asked, json={"remx": True})).fields == ["remx"]
        service.stage()
        assert (await service.post(asked, json={"remix": True})).status == 202


async def test_a_delete_can_be_taken_back_for_a_while(service: Service) -> None:
    """It is where it was; later there is nothing to take back, and that is said."""
    state = await service.made()
    await service.delete(f"/v1/generations/{state.id}")
    assert (await service.get(f"/v1/generations/{state.id}")).status == 404

    back = await service.post(f"/v1/generations/{state.id}/undelete")

    assert back.status == 200
    assert back.json["id"] == str(state.id)
    shown = await service.settled(state.id)
    assert images(shown) == images(state)
    assert (await service.post(f"/v1/generations/{uuid4()}/undelete")).status == 404


async def test_what_failed_in_one_way_is_tried_again_at_once(tmp_path: Path) -> None:
    """Once the cause is mended; what failed otherwise is left alone, and nothing is paid for twice."""
    async with a_service(tmp_path, {"on": "cdn", "do": "html"}, store_patience=AT_ONCE) as service:
        lost = [await service.made() for _ in range(3)]
        assert all(error_codes(state) == ["content_rejected"] for state in lost)
        other = await service.settled((await service.create(width=100)).id)
        service.stage()

        answer = await service.post("/v1/retry", json={"error": "content_rejected"})

        assert answer.json == {"retried": 3, "next_cursor": None}
        for state in lost:
            await until(service.ctx, state.id, lambda state: len(images(state)) == 1)
            assert service.billed(state) == 1
        assert error_codes(other) == error_codes(await service.settled(other.id))
        assert not images(await service.settled(other.id))


async def test_a_retry_has_a_limit(tmp_path: Path) -> None:
    """So many generations and no more, the newest first."""
    async with a_service(tmp_path, {"on": "cdn", "do": "html"}, store_patience=AT_ONCE) as service:
        for _ in range(3):
            await service.made()

        first = (await service.post("/v1/retry", json={"error": "content_rejected", "limit": 2})).json
        assert first["retried"] == 2
        rest = {"error": "content_rejected", "cursor": first["next_cursor"]}
        assert (await service.post("/v1/retry", json=rest)).json == {"retried": 1, "next_cursor": None}
        assert (await service.post("/v1/retry", json={"error": "content_rejected", "limit": 0})).fields == ["limit"]
        assert (await service.post("/v1/retry", json={})).fields == ["error"]
        assert (await service.post("/v1/retry", json={"error": "api_rejected"})).fields == ["error"]


async def test_the_list_can_be_searched(service: Service) -> None:
    """Words of the prompt, and codes of errors."""
    await service.post("/v1/generations", json={"input": an_input(positivePrompt="a red boat")})
    boat = await service.made(positivePrompt="A blue BOAT")
    refused = await service.create(width=100)
    await service.settled(refused.id)

    found = (await service.get("/v1/generations?prompt=boat+blue")).json["items"]
    failed = (await service.get("/v1/generations?error=api_rejected")).json["items"]

    assert [item["id"] for item in found] == [str(boat.id)]
    assert [item["id"] for item in failed] == [str(refused.id)]
