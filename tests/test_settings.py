"""Settings: from the environment and a file, refused when they are wrong, and never shown."""

import os
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from runware_provider.context import Context
from runware_provider.errors import ConfigurationError
from runware_provider.settings import PREFIX, Settings, check_settings, is_loopback, load_settings, variable
from tests.service import some_settings

SECRET = "hunter2-is-planted"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but those of the test: an empty working directory and none of ours in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith("RUNWARE"):
            monkeypatch.delenv(name)


def set_all(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    """Set these settings in the environment."""
    for field, value in values.items():
        monkeypatch.setenv(variable(field), value)


def refusal() -> str:
    """The message with which the settings are refused."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    return str(caught.value)


def plain(value: Any) -> Any:
    """A value with its secrets shown."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return tuple(map(plain, value)) if isinstance(value, tuple) else value


CASES: list[tuple[str, str, Any]] = [
    ("runware_api_key", "a-key", "a-key"),
    ("public_url", "https://images.example.com", "https://images.example.com"),
    ("delivery", "poll", "poll"),
    ("data_dir", "/srv/runware", Path("/srv/runware")),
    ("state_url", "sqlite:////srv/state.db", "sqlite:////srv/state.db"),
    ("projection_url", "sqlite:////srv/projection.db", "sqlite:////srv/projection.db"),
    ("artifacts_url", "memory://", "memory://"),
    ("s3_endpoint", "http://minio.example.com:9000/", "http://minio.example.com:9000"),
    ("s3_region", "auto", "auto"),
    ("s3_access_key_id", "a-key-id", "a-key-id"),
    ("s3_secret_access_key", "a-secret", "a-secret"),
    ("content_redirects", "true", True),
    ("d1_token", "a-token", "a-token"),
    ("d1_url", "http://127.0.0.1:8787/client/v4", "http://127.0.0.1:8787/client/v4"),
    ("runware_url", "http://127.0.0.1:8181/v1", "http://127.0.0.1:8181/v1"),
    ("image_hosts", "runware.ai, 127.0.0.1:8181 ,", ("runware.ai", "127.0.0.1:8181")),
    ("webhook_secret", "new,old", ("new", "old")),
    ("client_tokens", "one, two", ("one", "two")),
    ("deadline", "30m", timedelta(minutes=30)),
    ("daily_budget", "12.50", Decimal("12.50")),
    ("retention", "90d", timedelta(days=90)),
    ("patience", "90s", timedelta(seconds=90)),
    ("store_patience", "1.5h", timedelta(hours=1.5)),
    ("max_image_bytes", "8MiB", 8 * 1024**2),
    ("max_body_bytes", "512KiB", 512 * 1024),
    ("max_request_bytes", "1048576", 1024**2),
    ("max_in_flight", "7", 7),
    ("concurrency", "3", 3),
]


@pytest.mark.parametrize(("field", "given", "expected"), CASES, ids=[case[0] for case in CASES])
def test_each_setting_is_read_from_its_variable(
    field: str, given: str, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names in the design's table are what operators type."""
    set_all(monkeypatch, **{field: given})

    assert expected == plain(getattr(load_settings(), field))


def test_every_setting_is_among_the_cases_above() -> None:
    """A new setting is tested, too."""
    assert {case[0] for case in CASES} == set(Settings.model_fields)


def test_only_the_key_goes_without_the_prefix() -> None:
    """It has the name under which Runware's own tools know it."""
    assert {"RUNWARE_API_KEY"} == {
        variable(field) for field in Settings.model_fields if not variable(field).startswith(PREFIX)
    }


def test_without_any_setting_the_documented_defaults_hold() -> None:
    """A laptop needs an API key and nothing else."""
    settings = load_settings()

    assert settings.runware_api_key is None
    assert settings.delivery_mode == "poll"
    assert settings.runware_url == "https://api.runware.ai/v1"
    assert settings.image_hosts == ("runware.ai",)
    assert settings.deadline == timedelta(minutes=15)
    assert settings.patience == settings.store_patience == timedelta(minutes=2)
    assert (settings.max_image_bytes, settings.max_body_bytes) == (64 * 1024**2, 1024**2)
    assert (settings.max_request_bytes, settings.max_in_flight) == (32 * 1024**2, 1_000)


def test_the_defaults_lie_in_the_data_directory(tmp_path: Path) -> None:
    """Everything the embedded default keeps can be found, saved and removed in one place."""
    settings = Settings(data_dir=tmp_path / "my data")

    assert settings.state_address == f"sqlite:///{tmp_path}/my data/state.db"
    assert settings.projection_address == f"sqlite:///{tmp_path}/my data/projection.db"
    assert settings.artifacts_address == f"file://{tmp_path}/my%20data/artifacts"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("90", timedelta(seconds=90)),
        (" 90 s ", timedelta(seconds=90)),
        ("0.5m", timedelta(seconds=30)),
        ("2h", timedelta(hours=2)),
        ("1d", timedelta(days=1)),
    ],
)
def test_a_time_is_a_number_with_a_unit(given: str, expected: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one it is seconds."""
    set_all(monkeypatch, patience=given)

    assert expected == load_settings().patience


@pytest.mark.parametrize("given", ["soon", "-5s", "15 minutes", "1e3", "0s", "NaN", "99999999999d", "99999999d"])
def test_a_time_that_is_none_is_refused_by_name(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is beyond any calendar: it would break when the first deadline is counted."""
    set_all(monkeypatch, deadline=given)

    assert refusal().startswith("RUNWARE_PROVIDER_DEADLINE: ")


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("max_image_bytes", "big"),
        ("max_image_bytes", "0"),
        ("max_in_flight", "0"),
        ("max_in_flight", "many"),
        ("concurrency", "0"),
        ("concurrency", "257"),
        ("delivery", "pigeon"),
        ("public_url", "images.example.com"),
        ("public_url", "ftp://images.example.com"),
        ("public_url", "https://"),
        ("public_url", "https://images.example.com:99999"),
        ("public_url", "https://images.example.com/?a=b"),
        ("public_url", "https://images.example.com/#here"),
        ("runware_url", "https://user@api.runware.ai/v1"),
        ("s3_endpoint", "minio.example.com:9000"),
        ("content_redirects", "perhaps"),
        ("runware_url", "http://127.0.0.1:99999/v1"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(field: str, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, not when the first generation needs it."""
    set_all(monkeypatch, **{field: given})

    assert refusal().startswith(f"{variable(field)}: ")


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator corrects them in one go."""
    set_all(monkeypatch, deadline="soon", concurrency="0")

    message = refusal()

    assert "RUNWARE_PROVIDER_DEADLINE: must be a time such as 90s, 15m or 24h" in message
    assert "RUNWARE_PROVIDER_CONCURRENCY: " in message


def test_an_unknown_name_stops_the_start_and_suggests_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt setting would otherwise be no setting at all."""
    monkeypatch.setenv("RUNWARE_PROVIDER_DEADLIN", "5m")

    assert refusal() == "RUNWARE_PROVIDER_DEADLIN is not a setting; did you mean RUNWARE_PROVIDER_DEADLINE?"


def test_an_unknown_name_that_resembles_nothing_gets_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy is in the message."""
    monkeypatch.setenv("RUNWARE_PROVIDER_XYZZY", "1")

    message = refusal()

    assert message.startswith("RUNWARE_PROVIDER_XYZZY is not a setting")
    assert "RUNWARE_PROVIDER_PUBLIC_URL" in message


def test_a_file_in_the_working_directory_is_read(tmp_path: Path) -> None:
    """Names stand there in lower case, without the prefix; lists may be lists."""
    (tmp_path / "runware-provider.toml").write_text(
        'runware_api_key = "from-the-file"\ndeadline = "5m"\nconcurrency = 2\nimage_hosts = ["a.example", "b.test"]\n'
    )

    settings = load_settings()

    assert plain(settings.runware_api_key) == "from-the-file"
    assert (settings.deadline, settings.concurrency) == (timedelta(minutes=5), 2)
    assert settings.image_hosts == ("a.example", "b.test")


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is what is usual here, the environment what is meant now."""
    (tmp_path / "runware-provider.toml").write_text(
        'runware_api_key = "from-the-file"\ndeadline = "5m"\nconcurrency = 2\n'
    )
    set_all(monkeypatch, runware_api_key="from-the-environment", deadline="6m")

    settings = load_settings()

    assert plain(settings.runware_api_key) == "from-the-environment"
    assert (settings.deadline, settings.concurrency) == (timedelta(minutes=6), 2)


def test_an_unknown_name_in_the_file_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    """The same care as for the environment."""
    (tmp_path / "runware-provider.toml").write_text('dedline = "5m"\n')

    message = refusal()

    assert "dedline in runware-provider.toml is not a setting" in message
    assert "did you mean deadline?" in message


def test_a_wrong_value_in_the_file_is_refused_by_name(tmp_path: Path) -> None:
    """The variable's name stands for the setting wherever it was set."""
    (tmp_path / "runware-provider.toml").write_text('deadline = "soon"\n')

    assert refusal().startswith("RUNWARE_PROVIDER_DEADLINE: ")


@pytest.mark.parametrize("content", [b"deadline = ", b"\xff\xfe", b"= 3"])
def test_a_file_that_is_no_toml_is_refused(content: bytes, tmp_path: Path) -> None:
    """With its name, and no traceback."""
    (tmp_path / "runware-provider.toml").write_bytes(content)

    assert refusal().startswith("runware-provider.toml cannot be read")


def test_an_environment_given_as_an_argument_is_the_one_that_is_read() -> None:
    """`load_settings(environ)` must not look into another one."""
    assert load_settings({"RUNWARE_PROVIDER_DEADLINE": "5m"}).deadline == timedelta(minutes=5)


@pytest.mark.parametrize("field", ["runware_api_key", "public_url", "client_tokens", "deadline"])
def test_an_empty_variable_counts_as_not_set(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`RUNWARE_API_KEY=${RUNWARE_API_KEY}` in a compose file makes it empty where it was not set."""
    set_all(monkeypatch, **{field: ""})

    assert Settings.model_fields[field].default == getattr(load_settings(), field)


@pytest.mark.parametrize("key", ["a-key\n", " a-key", "a-key\r\n"])
def test_white_space_around_a_key_is_no_part_of_it(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes from `$(cat key-file)` and the like, and no header can carry it."""
    set_all(monkeypatch, runware_api_key=key)

    assert plain(load_settings().runware_api_key) == "a-key"


@pytest.mark.parametrize("key", [f"{SECRET}\nX-Evil: 1", f"{SECRET}\x7f", f"{SECRET}é"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Better at the start than at the first dispatch."""
    set_all(monkeypatch, runware_api_key=key)

    message = refusal()

    assert message.startswith("RUNWARE_API_KEY: ")
    assert SECRET not in message


@pytest.mark.parametrize("field", sorted(set(Settings.model_fields) - {"data_dir"}))
def test_no_error_shows_the_value(field: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever was put into the wrong variable may be a secret; each is tried with one that it cannot take."""
    bad: dict[str, str] = {
        "public_url": f"https://user:{SECRET}@images.example.com",
        "runware_url": f"https://user:{SECRET}@api.runware.ai/v1",
        "state_url": f"mysql://user:{SECRET}@db.example/state",
        "d1_url": f"https://user:{SECRET}@api.cloudflare.com",
    }
    set_all(monkeypatch, **{field: bad.get(field, SECRET)})
    if field in {
        "runware_api_key",
        "projection_url",
        "artifacts_url",
        "image_hosts",
        "webhook_secret",
        "client_tokens",
        "s3_region",
        "s3_access_key_id",
        "s3_secret_access_key",
        "d1_token",
    }:
        set_all(monkeypatch, concurrency="0")  # these take any text: something else is wrong

    message = refusal()

    assert SECRET not in message


@pytest.mark.parametrize("field", ["public_url", "runware_url"])
@pytest.mark.parametrize("odd", [f"https://user:{SECRET}/x@host", f"https://{SECRET}℀.example", f"https://[{SECRET}"])
def test_an_address_that_is_none_is_refused_unseen(odd: str, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own messages about addresses show parts of them."""
    set_all(monkeypatch, **{field: odd})

    message = refusal()

    assert message.startswith(f"{variable(field)}: must be an http:// or https:// address")
    assert SECRET not in message


def test_no_secret_is_in_the_text_of_the_settings() -> None:
    """They end in logs and in tracebacks with local variables."""
    settings = Settings(
        runware_api_key=SecretStr(SECRET),
        webhook_secret=(SecretStr(SECRET),),
        client_tokens=(SecretStr(SECRET),),
    )

    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert SECRET not in settings.model_dump_json()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("projection_url", f"postgresql://user:{SECRET}@db.example/projection"),
        ("projection_url", f"d1://{SECRET}"),
        ("artifacts_url", f"nonsense://{SECRET}@bucket"),
        ("state_url", f"postgresql://user:{SECRET}@db.example/state"),
    ],
)
async def test_an_address_that_cannot_be_opened_is_refused_without_its_password(
    field: str, value: str, tmp_path: Path
) -> None:
    """Addresses of databases carry passwords; the message names the setting instead."""
    with pytest.raises(ConfigurationError) as caught:
        async with Context.open(some_settings(tmp_path, **{field: value})):
            pass  # pragma: no cover

    assert field.upper() in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("artifacts_url", f"s3://user:{SECRET}@bucket/prefix"),
        ("artifacts_url", f"s3://{SECRET}@bucket"),
        ("artifacts_url", f"s3://user:a/{SECRET}@bucket"),
        ("artifacts_url", f"gs://user:{SECRET}@bucket"),
        ("artifacts_url", f"az://user:{SECRET}@container"),
        ("artifacts_url", f"memory://user:{SECRET}@nowhere"),
        ("artifacts_url", f"file://user:{SECRET}@localhost/images"),
        ("projection_url", f"sqlite://user:{SECRET}@/srv/projection.db"),
        ("projection_url", f"d1://{SECRET}@account/database"),
        ("state_url", f"sqlite://user:{SECRET}@/srv/state.db"),
    ],
)
async def test_a_user_in_an_address_that_has_no_use_for_one_is_refused(
    field: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ignored in silence it would be looked for where it does not count, and be shown where addresses are shown."""
    set_all(monkeypatch, **{field: value})
    with pytest.raises(ConfigurationError) as caught:
        async with Context.open(some_settings(tmp_path, **{field: value})):
            pass  # pragma: no cover

    for message in (refusal(), str(caught.value)):
        assert message.startswith(f"{variable(field)}: must not carry a user name or a password; ")
        assert SECRET not in message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("artifacts_url", "s3://bucket/team@example.com"),
        ("artifacts_url", "file:///srv/a@b/images"),
        ("projection_url", f"postgresql://user:{SECRET}@db.example/projection"),
        ("projection_url", "sqlite:////srv/a@b/projection.db"),
        ("state_url", "sqlite:////srv/a@b/state.db"),
    ],
)
def test_a_sign_that_is_no_user_is_no_offence(field: str, value: str) -> None:
    """A folder may have it in its name, and PostgreSQL has users."""
    check_settings(Settings(**{field: value}))  # type: ignore[arg-type]  # all three are text


def test_delivery_by_webhook_needs_a_public_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runware must be told where to deliver."""
    set_all(monkeypatch, delivery="webhook")

    assert "RUNWARE_PROVIDER_PUBLIC_URL" in refusal()


@pytest.mark.parametrize(
    ("delivery", "public_url", "expected"),
    [
        (None, None, "poll"),
        (None, "https://images.example.com", "webhook"),
        ("poll", "https://images.example.com", "poll"),
        ("poll", None, "poll"),
        ("webhook", "https://images.example.com", "webhook"),
    ],
)
def test_results_are_delivered_where_there_is_an_address_and_asked_for_elsewhere(
    delivery: Any, public_url: str | None, expected: str
) -> None:
    """`DELIVERY` overrides what `PUBLIC_URL` implies."""
    settings = Settings(delivery=delivery, public_url=public_url)
    check_settings(settings)

    assert expected == settings.delivery_mode


def test_a_public_url_may_have_a_path_but_no_slash_at_its_end() -> None:
    """The webhook's path is put right behind it."""
    assert Settings(public_url="https://example.com/images/").public_url == "https://example.com/images"


@pytest.mark.parametrize("rest", ["/x@127.0.0.1:1/db", "#y@127.0.0.1:1/db", "?z@127.0.0.1:1/db", "@[::1/db", "@h:p/db"])
@pytest.mark.parametrize("field", ["state_url", "projection_url"])
async def test_an_address_of_postgresql_that_is_none_shows_nothing_of_itself(
    field: str, rest: str, tmp_path: Path
) -> None:
    """A character of the password that was not encoded moves the rest of it into host, port or path."""
    with pytest.raises(ConfigurationError, match="percent-encoded") as caught:
        async with Context.open(some_settings(tmp_path, **{field: f"postgresql://user:{SECRET}{rest}"})):
            pass  # pragma: no cover

    assert SECRET not in str(caught.value)
    assert field.upper() in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://db/state", "sqlite://state.db", "memory://", "/srv/state.db"])
def test_a_state_store_of_another_kind_is_refused(url: str) -> None:
    """This release knows two; the others must not look as if they worked."""
    with pytest.raises(ConfigurationError, match="RUNWARE_PROVIDER_STATE_URL"):
        check_settings(Settings(state_url=url))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.1", False),
        ("localhost.example.com", False),
        ("", False),
    ],
)
def test_loopback_is_this_machine_only(host: str, expected: bool) -> None:
    """Without client tokens nothing else is listened on or answered."""
    assert expected == is_loopback(host)
