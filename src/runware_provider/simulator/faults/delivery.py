"""The faults on the way back: what webhooks carry, and how the CDN serves an image."""

from typing import ClassVar, Literal

from pydantic import Field

from runware_provider.simulator.faults.rule import Level, Malformed, Poison, Rule, Seconds, Status

WebhookShape = Literal["data", "flat", "batch"]
WebhookErrorShape = Literal["errors", "errors_and_data", "flat", "flat_object", "data"]


class _WebhookRule(Rule):
    level: ClassVar[Level] = "row"
    counts_images: ClassVar[bool] = True


class WebhookDrop(_WebhookRule):
    """The delivery is never sent."""

    on: Literal["webhook"]
    do: Literal["drop"]


class WebhookDuplicate(_WebhookRule):
    """The delivery is sent `times` more, `seconds` apart."""

    on: Literal["webhook"]
    do: Literal["duplicate"]
    times: int = Field(1, ge=1, le=32)
    seconds: Seconds = 0


class WebhookDelay(_WebhookRule):
    """The delivery is sent `seconds` later."""

    on: Literal["webhook"]
    do: Literal["delay"]
    seconds: Seconds


class WebhookReorder(_WebhookRule):
    """The delivery waits until the task has finished, and the last result is then sent first."""

    on: Literal["webhook"]
    do: Literal["reorder"]
    seconds: Seconds = 0.05


class WebhookBody(_WebhookRule):
    """The body's shape: `data` (`{"data":[item]}`), `flat`, `batch` (all results in one), and those of errors."""

    on: Literal["webhook"]
    do: Literal["shape"]
    shape: WebhookShape | None = None
    error_shape: WebhookErrorShape | None = None
    status: bool | None = None


class WebhookProcessing(_WebhookRule):
    """`times` items with `status: processing` come before the result."""

    on: Literal["webhook"]
    do: Literal["processing"]
    times: int = Field(1, ge=1, le=32)


class WebhookWithoutUrl(_WebhookRule):
    """The result comes without `imageURL`, and with it `later` seconds after, or never."""

    on: Literal["webhook"]
    do: Literal["without_url"]
    later: Seconds | None = None


class WebhookMalformed(_WebhookRule):
    """A body of no use comes instead of the result, or (with `also`) before it."""

    on: Literal["webhook"]
    do: Literal["malformed"]
    kind: Malformed = "not_json"
    also: bool = False


class WebhookPoison(_WebhookRule):
    """The result is real, and one of its fields carries what breaks parsers and databases."""

    on: Literal["webhook"]
    do: Literal["poison"]
    kind: Poison


class WebhookForeign(_WebhookRule):
    """The item carries a foreign `taskUUID`; with `also` it comes beside the real one in the same body."""

    on: Literal["webhook"]
    do: Literal["foreign"]
    also: bool = False


class _CdnRule(Rule):
    counts_images: ClassVar[bool] = True


class CdnStatus(_CdnRule):
    """The image is answered with `status` and a short text."""

    on: Literal["cdn"]
    do: Literal["status"]
    status: Status
    retry_after: Seconds | None = None


class CdnSlow(_CdnRule):
    """The first byte comes after `seconds`; then `bytes_per_second`, if given."""

    on: Literal["cdn"]
    do: Literal["slow"]
    seconds: Seconds = 0
    bytes_per_second: int | None = Field(None, ge=1)


class CdnStall(_CdnRule):
    """The body stops after `after_bytes` for `seconds`, then the connection breaks."""

    on: Literal["cdn"]
    do: Literal["stall"]
    after_bytes: int = Field(1024, ge=0)
    seconds: Seconds = 3600


class CdnTruncate(_CdnRule):
    """A part (`keep`, 0 to 1) of the body: short of its Content-Length or last chunk, or closed without a length."""

    on: Literal["cdn"]
    do: Literal["truncate"]
    how: Literal["length", "chunked", "close"] = "length"
    keep: float = Field(0.5, ge=0, lt=1)


class CdnContentType(_CdnRule):
    """The right bytes with a wrong Content-Type."""

    on: Literal["cdn"]
    do: Literal["content_type"]
    content_type: str = Field("text/plain", min_length=1, max_length=200)


class CdnHtml(_CdnRule):
    """HTTP 200 and a page of HTML; with `as_image` it claims to be the image."""

    on: Literal["cdn"]
    do: Literal["html"]
    as_image: bool = False


class CdnEmpty(_CdnRule):
    """HTTP 200 and no bytes."""

    on: Literal["cdn"]
    do: Literal["empty"]


class CdnOversize(_CdnRule):
    """A valid image start followed by zeros up to `size_bytes`, with or without saying so beforehand."""

    on: Literal["cdn"]
    do: Literal["oversize"]
    size_bytes: int = Field(100 * 1024 * 1024, ge=1, le=64 * 1024**3)
    declared: bool = True


class CdnBomb(_CdnRule):
    """A small image whose header claims `width` by `height` pixels."""

    on: Literal["cdn"]
    do: Literal["bomb"]
    width: int = Field(65_500, ge=1, le=65_500)
    height: int = Field(65_500, ge=1, le=65_500)


class CdnRedirect(_CdnRule):
    """A redirect to `location`, by default to where clouds keep their secrets."""

    on: Literal["cdn"]
    do: Literal["redirect"]
    location: str = Field("http://169.254.169.254/latest/meta-data/", min_length=1, max_length=2048)
    status: Literal[301, 302, 303, 307, 308] = 302


class CdnBreak(_CdnRule):
    """The connection breaks without an answer."""

    on: Literal["cdn"]
    do: Literal["break"]


class CdnHang(_CdnRule):
    """No answer comes for `seconds`, then the connection breaks."""

    on: Literal["cdn"]
    do: Literal["hang"]
    seconds: Seconds = 3600


WebhookFault = (
    WebhookDrop
    | WebhookDuplicate
    | WebhookDelay
    | WebhookReorder
    | WebhookBody
    | WebhookProcessing
    | WebhookWithoutUrl
    | WebhookMalformed
    | WebhookPoison
    | WebhookForeign
)
CdnFault = (
    CdnStatus
    | CdnSlow
    | CdnStall
    | CdnTruncate
    | CdnContentType
    | CdnHtml
    | CdnEmpty
    | CdnOversize
    | CdnBomb
    | CdnRedirect
    | CdnBreak
    | CdnHang
)
