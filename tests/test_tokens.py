"""Webhook tokens: only we can make them, for one generation each."""

from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runware_provider.tokens import REMEMBERED, WEBHOOK_PATH, WebhookTokens

ONE = UUID("0193a000-0000-7000-8000-000000000001")
OTHER = UUID("0193a000-0000-7000-8000-000000000002")


def test_a_token_opens_its_own_generation_and_no_other() -> None:
    """Who learns one address can forge results for that generation only."""
    tokens = WebhookTokens(["secret"])

    assert tokens.accepts(ONE, tokens.token(ONE))
    assert not tokens.accepts(OTHER, tokens.token(ONE))


def test_a_token_is_the_same_in_every_process_with_the_secret() -> None:
    """Addresses that Runware was given must outlive a restart; this one is a record of what was given out."""
    assert WebhookTokens(["secret"]).token(ONE) == WebhookTokens(["secret"]).token(ONE)
    assert WebhookTokens(["secret"]).token(ONE) == "C-dZfmVWwYNIpKNE677xiwnSfVyJZa78WuKRgwVUcc8"


def test_a_token_says_nothing_about_the_secret() -> None:
    """43 characters of base64url, whatever the secret is."""
    token = WebhookTokens(["secret"]).token(ONE)

    assert len(token) == 43
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert "secret" not in token


def test_another_secret_makes_another_token() -> None:
    """Or anybody could make them."""
    assert not WebhookTokens(["secret"]).accepts(ONE, WebhookTokens(["guess"]).token(ONE))


def test_after_a_rotation_earlier_addresses_still_work() -> None:
    """Runware may deliver to an address for as long as a generation waits for results."""
    before, after = WebhookTokens(["old"]), WebhookTokens(["new", "old"])

    assert after.accepts(ONE, before.token(ONE))
    assert after.accepts(ONE, after.token(ONE))
    assert after.token(ONE) == WebhookTokens(["new"]).token(ONE)
    assert not WebhookTokens(["new"]).accepts(ONE, before.token(ONE))


def test_without_a_secret_there_are_no_tokens() -> None:
    """Never a default that everybody knows."""
    with pytest.raises(ValueError, match="secret"):
        WebhookTokens([])


@pytest.mark.parametrize(
    "hostile",
    [
        "",
        " ",
        "=",
        "\x00",
        "\ud800",
        "é",
        "日本",
        "a" * 100_000,
        "%00",
        "None",
        "C-dZfmVWwYNIpKNE677xiwnSfVyJZa78WuKRgwVUcc8",
    ],
)
def test_a_hostile_token_is_refused_without_an_exception(hostile: str) -> None:
    """What stands in a query is anybody's to choose."""
    assert not WebhookTokens(["another secret"]).accepts(ONE, hostile)


@given(st.text(st.characters(categories=None), max_size=64))
def test_no_text_is_a_token(text: str) -> None:
    """Any string of any code points, surrogates too: False, and nothing raised."""
    assert not WebhookTokens(["secret", "older"]).accepts(ONE, text)


@pytest.mark.parametrize("change", [lambda token: token[:-1], lambda token: token + "=", str.swapcase])
def test_almost_a_token_is_none(change: Callable[[str], str]) -> None:
    """Not a prefix, not another spelling."""
    tokens = WebhookTokens(["secret"])

    assert not tokens.accepts(ONE, change(tokens.token(ONE)))


@pytest.mark.parametrize("public_url", ["https://images.example.com", "http://127.0.0.1:8000/images"])
def test_the_address_carries_id_and_token_in_its_query(public_url: str) -> None:
    """Runware authenticates by the URL alone."""
    tokens = WebhookTokens(["secret"])

    address = tokens.webhook_url(public_url, ONE)

    assert address.startswith(f"{public_url}{WEBHOOK_PATH}?")
    assert parse_qs(urlsplit(address).query) == {"generation_id": [str(ONE)], "token": [tokens.token(ONE)]}


def test_an_address_opens_its_generation_whether_it_is_remembered_or_not() -> None:
    """The same process, another one with the secret, and one that has given out very many since; in any order of it."""
    tokens, elsewhere = WebhookTokens(["secret"]), WebhookTokens(["new", "secret"])
    query = urlsplit(tokens.webhook_url("https://x", ONE)).query
    swapped = "&".join(reversed(query.split("&")))

    for _ in range(2):
        for each in (tokens, elsewhere):
            assert each.opened(query.encode()) == each.opened(swapped.encode()) == ONE
        for number in range(REMEMBERED + 10):
            tokens.webhook_url("https://x", UUID(int=number))
        assert len(tokens._given) <= REMEMBERED


@pytest.mark.parametrize(
    "query",
    [
        b"",
        b"\xff",
        b"generation_id=%b" % str(ONE).encode(),
        b"token=C-dZfmVWwYNIpKNE677xiwnSfVyJZa78WuKRgwVUcc8",
        b"generation_id=1&token=1",
        b"generation_id=%b&token=C-dZfmVWwYNIpKNE677xiwnSfVyJZa78WuKRgwVUcc8" % str(OTHER).encode(),
        b"&".join([b"a=1"] * 40),
    ],
)
def test_what_is_no_address_of_ours_opens_nothing(query: bytes) -> None:
    """Nor does it raise."""
    tokens = WebhookTokens(["secret"])
    tokens.webhook_url("https://x", ONE)
    tokens.webhook_url("https://x", OTHER)

    assert tokens.opened(query) is None
