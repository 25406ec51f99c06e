"""The bytes of a stored image: whole, in part, or not again."""

from hashlib import sha256
from pathlib import Path

import pytest

from tests.api.conftest import undocumented
from tests.service import Answer, Service, a_service, images, objects


class Picture:
    """One stored image and its address."""

    def __init__(self, service: Service, path: str, data: bytes, content_type: str) -> None:
        self.service = service
        self.path = path
        self.data = data
        self.etag = f'"{sha256(data).hexdigest()}"'
        self.content_type = content_type

    async def get(self, method: str = "GET", **headers: str) -> Answer:
        """Ask for it; `_` in header names stands for `-`."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.service.ask(method, self.path, headers=given)


@pytest.fixture
async def picture(service: Service, tmp_path: Path) -> Picture:
    """A PNG."""
    state = await service.made(outputFormat="PNG")
    (output,) = images(state)
    (file,) = objects(tmp_path)
    return Picture(service, f"/v1/generations/{state.id}/outputs/{output.id}/content", file.read_bytes(), "image/png")


async def test_the_whole_image_comes_as_what_it_is(picture: Picture) -> None:
    """The type is that of the bytes; nothing may be made of it but an image; it never changes."""
    answer = await picture.get()

    assert (answer.status, answer.body) == (200, picture.data)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-length"] == str(len(picture.data))
    assert answer.headers["etag"] == picture.etag
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert "immutable" in answer.headers["cache-control"]
    assert "private" in answer.headers["cache-control"]


async def test_a_part_of_it_can_be_had(picture: Picture) -> None:
    """Players and resumed downloads ask for ranges: from, to, from on, and the last ones."""
    size = len(picture.data)
    for wish, start, stop in (
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, size),
        ("bytes=-100", size - 100, size),
        (f"bytes=-{size * 2}", 0, size),
        (f"bytes=10-{size * 2}", 10, size),
        (f"bytes={size - 1}-", size - 1, size),
        ("bytes=0-" + "9" * 30, 0, size),
    ):
        answer = await picture.get(Range=wish)
        assert answer.status == 206, wish
        assert answer.body == picture.data[start:stop], wish
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}", wish
        assert answer.headers["content-length"] == str(stop - start), wish
        assert answer.headers["etag"] == picture.etag


async def test_a_part_that_does_not_exist_is_said_not_to(picture: Picture) -> None:
    """416, with the size that it has."""
    size = len(picture.data)
    for wish in (f"bytes={size}-", f"bytes={size}-{size + 5}", "bytes=-0", "bytes=99999999999999999999-"):
        answer = await picture.get(Range=wish)
        assert answer.status == 416, wish
        assert answer.headers["content-range"] == f"bytes */{size}", wish
        assert answer.problem


async def test_a_range_that_is_not_understood_is_no_range(picture: Picture) -> None:
    """As RFC 9110 has it: the whole is a right answer to any of these."""
    for wish in ("bytes=5-3", "bytes=", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,4-5", "0-5", "bytes=--5"):
        answer = await picture.get(Range=wish)
        assert (answer.status, len(answer.body)) == (200, len(picture.data)), wish


async def test_what_the_client_has_is_not_sent_again(picture: Picture) -> None:
    """304 for its ETag, also in a list, as weak, and for any."""
    for known in (picture.etag, f'"other", {picture.etag}', f"W/{picture.etag}", "*"):
        answer = await picture.get(If_None_Match=known)
        assert (answer.status, answer.body) == (304, b""), known
        assert answer.headers["etag"] == picture.etag
    assert (await picture.get(If_None_Match='"other"')).status == 200
    assert (await picture.get(If_None_Match=picture.etag, Range="bytes=0-1")).status == 304


async def test_a_resumed_download_gets_the_rest_only_of_the_same_image(picture: Picture) -> None:
    """`If-Range` with another ETag, a weak one or a date: the whole."""
    same = await picture.get(Range="bytes=5-", If_Range=picture.etag)
    assert (same.status, same.body) == (206, picture.data[5:])
    for other in ('"other"', f"W/{picture.etag}", "Wed, 21 Oct 2026 07:28:00 GMT"):
        assert (await picture.get(Range="bytes=5-", If_Range=other)).status == 200, other


async def test_head_tells_the_same_without_the_bytes(picture: Picture) -> None:
    """A range means nothing to HEAD."""
    for headers in ({}, {"Range": "bytes=0-1"}):
        answer = await picture.get("HEAD", **headers)
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["content-length"] == str(len(picture.data))
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["etag"] == picture.etag
    assert (await picture.get("HEAD", If_None_Match=picture.etag)).status == 304


async def test_an_output_that_is_an_error_has_no_content(service: Service) -> None:
    """404 that says where to look."""
    service.stage({"on": "result", "do": "refusal"})
    state = await service.made()

    answer = await service.get(f"/v1/generations/{state.id}/outputs/{state.outputs[0].id}/content")

    assert answer.status == 404
    assert "error" in answer.problem["detail"]


async def test_an_image_that_somebody_took_away_is_not_found(service: Service, tmp_path: Path) -> None:
    """The state knows it, the store does not: a problem, not a broken answer."""
    state = await service.made()
    (file,) = objects(tmp_path)
    file.unlink()

    answer = await service.get(f"/v1/generations/{state.id}/outputs/{state.outputs[0].id}/content")

    assert answer.status == 404
    assert answer.problem


async def test_an_image_that_somebody_cut_short_is_not_the_clients_fault(service: Service, tmp_path: Path) -> None:
    """What was stored is asked for, and the store has less."""
    state = await service.made()
    (file,) = objects(tmp_path)
    file.write_bytes(file.read_bytes()[:100])

    path = f"/v1/generations/{state.id}/outputs/{state.outputs[0].id}/content"
    answer = await service.get(path, headers={"Range": "bytes=200-300"})

    assert answer.status == 503
    assert answer.problem


async def test_a_large_image_comes_in_pieces_and_whole(tmp_path: Path) -> None:
    """3 MB and a bit, over the boundary of every buffer."""
    size = 3 * 1024 * 1024 + 17
    async with a_service(tmp_path, options={"image_bytes": size}) as service:
        state = await service.made()
        path = f"/v1/generations/{state.id}/outputs/{state.outputs[0].id}/content"
        whole = await service.get(path)
        part = await service.get(path, headers={"Range": f"bytes=1048570-{2 * 1024 * 1024 + 5}"})

        assert sha256(whole.body).hexdigest() == images(state)[0].sha256
        assert (len(whole.body), part.status) == (size, 206)
        assert part.body == whole.body[1048570 : 2 * 1024 * 1024 + 6]
        assert undocumented(service) == []


async def test_a_client_that_leaves_in_the_middle_harms_nobody(tmp_path: Path) -> None:
    """The next one is served as ever."""
    async with a_service(tmp_path, options={"image_bytes": 3 * 1024 * 1024}) as service:
        state = await service.made()
        path = f"/v1/generations/{state.id}/outputs/{state.outputs[0].id}/content"
        for _ in range(5):
            answer = await service.session.get(service.url + path)
            await answer.content.readany()
            answer.close()

        assert len((await service.get(path)).body) == 3 * 1024 * 1024
