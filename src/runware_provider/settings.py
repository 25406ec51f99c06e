"""Every setting, from the environment or from `runware-provider.toml` in the working directory.

The environment wins. Names carry the prefix `RUNWARE_PROVIDER_`, but for `RUNWARE_API_KEY`; in the file they stand in
lower case without it. A name that is not known stops the start. A `Settings` made in code reads neither.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from difflib import get_close_matches
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)

from runware_provider.errors import ConfigurationError

PREFIX = "RUNWARE_PROVIDER_"
CONFIG_FILE = Path("runware-provider.toml")

LONGEST = timedelta(days=3660)

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")


def _duration(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError("must be a time such as 90s, 15m or 24h")
    seconds = float(match[1]) * _UNITS[match[2] or "s"]
    if seconds > LONGEST.total_seconds():
        raise ValueError("must be at most 3660d")
    return timedelta(seconds=seconds)


def _listed(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Listed = Annotated[tuple[str, ...], BeforeValidator(_listed)]
SecretList = Annotated[tuple[SecretStr, ...], BeforeValidator(_listed)]

SECOND = timedelta(seconds=1)

_POSTGRES = ("postgresql://", "postgres://")


class Settings(BaseModel):
    """What an operator can set. `docs/reference/settings.md` is made from this class."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    runware_api_key: SecretStr | None = Field(
        None,
        description="The key that Runware bills. Never logged, never in an error.",
    )
    public_url: str | None = Field(
        None, description="Where Runware reaches this service, for example https://images.example.com."
    )
    delivery: Literal["webhook", "poll"] | None = Field(
        None, description="How results come: webhook (the default with PUBLIC_URL) or poll (the default without)."
    )
    data_dir: Path = Field(Path("runware-data"), description="Where the embedded default keeps everything.")
    state_url: str | None = Field(
        None,
        description="State store: sqlite:///PATH, for one process, or postgresql://USER:PASSWORD@HOST/DATABASE, for "
        "any number; default sqlite:// inside DATA_DIR.",
    )
    projection_url: str | None = Field(
        None,
        description="Read model: sqlite:///PATH, postgresql://USER:PASSWORD@HOST/DATABASE or d1://ACCOUNT/DATABASE; "
        "default beside the state.",
    )
    artifacts_url: str | None = Field(
        None,
        description="Object store: file:///path, s3://bucket/prefix, r2://account/bucket/prefix, gs://bucket/prefix, "
        "az://container/prefix, memory://; default inside DATA_DIR.",
    )
    s3_endpoint: str | None = Field(
        None,
        description="Address of an S3 that is not Amazon's, for example https://minio.example.com; http:// is allowed.",
    )
    s3_region: str | None = Field(None, description="Region of the bucket; default us-east-1, with r2:// auto.")
    s3_access_key_id: str | None = Field(
        None, description="Key of s3:// and r2://. Without one, AWS_ACCESS_KEY_ID and so on, or the machine's role."
    )
    s3_secret_access_key: SecretStr | None = Field(None, description="Its secret. Never logged, never in an error.")
    content_redirects: bool = Field(
        False,
        description="Answer a request for an image's bytes with 307 to an address at the bucket itself, good for 5 "
        "minutes. For s3://, r2://, gs:// and az://.",
    )
    d1_token: SecretStr | None = Field(
        None, description="Cloudflare's token that may edit D1, for d1://. Never logged, never in an error."
    )
    d1_url: str = Field("https://api.cloudflare.com/client/v4", description="Cloudflare's API, for d1://.")
    runware_url: str = Field("https://api.runware.ai/v1", description="Runware's API, or a simulator's.")
    image_hosts: Listed = Field(
        ("runware.ai",),
        description="Hosts that images may be fetched from, with their subdomains; an entry that names a loopback or "
        "private address allows it over plain HTTP, for tests.",
    )
    webhook_secret: SecretList = Field(
        (),
        description="Signs webhook addresses: the current secret, then earlier ones that are still accepted. "
        "Made and kept in the state store when not set.",
    )
    client_tokens: SecretList = Field(
        (), description="Bearer tokens of the client API. Without any the service listens on loopback only."
    )
    deadline: Duration = Field(timedelta(minutes=15), ge=SECOND, description="From creation to `timeout`.")
    patience: Duration = Field(
        timedelta(minutes=2), gt=timedelta(0), description="Before a dispatch of unknown outcome may be sent again."
    )
    store_patience: Duration = Field(
        timedelta(minutes=2), gt=timedelta(0), description="Before an image that cannot be kept yet shows an error."
    )
    max_image_bytes: ByteSize = Field(ByteSize(64 * 1024**2), gt=0, description="Per image.")
    max_body_bytes: ByteSize = Field(ByteSize(1024**2), gt=0, description="Per webhook delivery.")
    max_request_bytes: ByteSize = Field(ByteSize(32 * 1024**2), gt=0, description="Per request of a client.")
    max_in_flight: int = Field(1_000, ge=1, description="Running generations; more are answered 429.")
    daily_budget: Decimal | None = Field(
        None,
        gt=0,
        le=1_000_000,
        description="US dollars a day (UTC); what would go beyond is refused before it is spent. A cost that is not "
        "known counts as the highest known of its model.",
    )
    retention: Duration | None = Field(
        None,
        ge=SECOND,
        description="How long complete and projected generations stay in state; images and the read model are kept. "
        "Default: for ever.",
    )
    concurrency: int = Field(16, ge=1, le=256, description="Images that are fetched and stored at once.")

    @field_validator("public_url", "runware_url", "s3_endpoint", "d1_url")
    @classmethod
    def _is_http_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = _address(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.password:
            raise ValueError("must be an http:// or https:// address without user name")
        if parts.query or parts.fragment:
            raise ValueError("must not have a query or a fragment")
        return value.rstrip("/")

    @field_validator("runware_api_key", "d1_token")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        key = value.get_secret_value().strip()
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError("must be printable ASCII without blanks")
        return SecretStr(key)

    @property
    def delivery_mode(self) -> Literal["webhook", "poll"]:
        """`delivery`, or its default."""
        return self.delivery or ("webhook" if self.public_url else "poll")

    @property
    def artifacts_address(self) -> str:
        """`artifacts_url`, or its default."""
        return self.artifacts_url or (self.data_dir.absolute() / "artifacts").as_uri()

    @property
    def projection_address(self) -> str:
        """`projection_url`, or its default: beside the state."""
        if self.projection_url is None and self.many_nodes:
            return self.state_address
        return self.projection_url or f"sqlite:///{self.data_dir.absolute() / 'projection.db'}"

    @property
    def many_nodes(self) -> bool:
        """Whether other processes may work on the same state."""
        return self.state_address.startswith(_POSTGRES)

    @property
    def state_address(self) -> str:
        """`state_url`, or its default."""
        return self.state_url or f"sqlite:///{self.data_dir.absolute() / 'state.db'}"


def load_settings(environ: Mapping[str, str] | None = None, file: Path = CONFIG_FILE) -> Settings:
    """Read the settings from `environ` (this process's when None) and `file`, and check them together.

    Raises ConfigurationError that names each setting that is wrong or unknown, and never its value.
    """
    environ = os.environ if environ is None else environ
    variables = {variable(name): name for name in Settings.model_fields}
    for name in environ:
        if name.startswith(PREFIX) and name not in variables:
            raise ConfigurationError(f"{name} is not a setting{_did_you_mean(name, set(variables))}")
    given = _read_file(file)
    # Empty means not set: `${NAME}` of a compose file that nobody set.
    given |= {field: environ[name] for name, field in variables.items() if environ.get(name)}
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        lines = [f"{variable(str(issue['loc'][0]))}: {_plain(issue['msg'])}" for issue in error.errors()]
        raise ConfigurationError("; ".join(lines)) from None
    check_settings(settings)
    return settings


def check_settings(settings: Settings) -> None:
    """Raise ConfigurationError for what is wrong only together."""
    if settings.delivery == "webhook" and settings.public_url is None:
        raise ConfigurationError(
            f"{PREFIX}DELIVERY=webhook needs {PREFIX}PUBLIC_URL, the address at which Runware reaches this service; "
            f"without one, leave it out or set it to poll"
        )
    for field, instead in _WITHOUT_USER.items():
        address = getattr(settings, field)
        if address is not None and _names_a_user(address):
            raise ConfigurationError(f"{variable(field)}: must not carry a user name or a password; {instead}")
    if not settings.state_address.startswith(("sqlite:///", *_POSTGRES)):
        raise ConfigurationError(
            f"{PREFIX}STATE_URL: must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE"
        )


_WITHOUT_USER = {
    "artifacts_url": "the keys of a bucket are settings or variables of their own",
    "projection_url": "only a postgresql:// address has them",
    "state_url": "only a postgresql:// address has them",
}
"""Where a user name would be ignored, and a password be shown; and where one belongs."""


def _names_a_user(address: str) -> bool:
    scheme, _, rest = address.partition("://")
    host, _, path = rest.partition("/")
    # A password with a slash in it leaves its colon in what passes for the host.
    return not scheme.startswith("postgres") and ("@" in host or (":" in host and "@" in path))


def _address(value: str) -> SplitResult:
    """The parts of an address. Raises ValueError that shows nothing of it, as `urlsplit`'s own would."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError("must be an http:// or https:// address without user name") from None
    return parts


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return "RUNWARE_API_KEY" if field == "runware_api_key" else PREFIX + field.upper()


@lru_cache(64)  # asked about every request's `Host`
def is_loopback(host: str) -> bool:
    """Whether `host` (a name or an address) is this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _read_file(file: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from None
    for name in content:
        if name not in Settings.model_fields:
            raise ConfigurationError(
                f"{name} in {file} is not a setting{_did_you_mean(name, set(Settings.model_fields))}"
            )
    return content


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")


def _did_you_mean(name: str, known: set[str]) -> str:
    short = {each.removeprefix(PREFIX): each for each in known}  # the prefix would make everything alike
    close = get_close_matches(name.removeprefix(PREFIX), short, 1)
    return f"; did you mean {short[close[0]]}?" if close else f"; the settings are {', '.join(sorted(known))}"
