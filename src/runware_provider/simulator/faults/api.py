"""The faults of Runware's API: how dispatches and questions are answered, and what a task comes to."""

from typing import ClassVar, Literal

from pydantic import Field

from runware_provider.simulator.faults.rule import Level, Malformed, Poison, Rule, Seconds, Status

AnswerBody = Literal["errors", "errors_and_data", "html", "empty", "not_json", "empty_data"]


class Refusal(Rule):
    """The answer `status`; `body` is its shape, `code` and `message` replace those documented for it."""

    status: Status = 503
    retry_after: Seconds | None = None
    body: AnswerBody = "errors"
    code: str | None = None
    message: str | None = None


class DispatchStatus(Refusal):
    """`imageInference` is answered with `status`; with `accept` the task runs and is billed all the same."""

    on: Literal["dispatch"]
    do: Literal["status"]
    accept: bool = False


class DispatchBreak(Rule):
    """The connection breaks, before or (with `accept`) after the task was taken; `sent_bytes` of the answer got out."""

    on: Literal["dispatch"]
    do: Literal["break"]
    accept: bool = False
    sent_bytes: int | None = Field(None, ge=0)


class DispatchHang(Rule):
    """No answer comes for `seconds`, then the connection breaks; with `accept` the task was taken."""

    on: Literal["dispatch"]
    do: Literal["hang"]
    accept: bool = False
    seconds: Seconds = 3600


class DispatchSlow(Rule):
    """The task is taken at once, the answer comes `seconds` later."""

    on: Literal["dispatch"]
    do: Literal["slow"]
    seconds: Seconds


class DispatchWebhookFirst(Rule):
    """The acknowledgement waits until a webhook of the task has been answered, `seconds` at most."""

    on: Literal["dispatch"]
    do: Literal["webhook_first"]
    seconds: Seconds = 10


class TaskError(Rule):
    """One error for the whole task, without results; a sync dispatch answers it with `http_status`."""

    on: Literal["task"]
    do: Literal["error"]
    code: str = "inferenceError"
    message: str = "The inference server could not finish this task."
    http_status: Status = 500


class TaskMore(Rule):
    """`extra` results more than asked for."""

    on: Literal["task"]
    do: Literal["more"]
    extra: int = Field(1, ge=1, le=100)


class TaskFewer(Rule):
    """`missing` results less than asked for; the task is then over all the same."""

    on: Literal["task"]
    do: Literal["fewer"]
    missing: int = Field(1, ge=1, le=100)


class TaskSlow(Rule):
    """The generation takes `seconds` longer."""

    on: Literal["task"]
    do: Literal["slow"]
    seconds: Seconds


class TaskStuck(Rule):
    """The task is accepted and never finishes."""

    on: Literal["task"]
    do: Literal["stuck"]


class _ResultRule(Rule):
    level: ClassVar[Level] = "row"
    counts_images: ClassVar[bool] = True


class ResultError(_ResultRule):
    """One result is an error, the same by webhook and by `getResponse`; with `image_uuid` it names the result."""

    on: Literal["result"]
    do: Literal["error"]
    code: str = "inferenceError"
    message: str = "The inference server could not finish this result."
    image_uuid: bool = False


class ResultRefusal(_ResultRule):
    """A provider's content filter refuses: a success without `imageURL`."""

    on: Literal["result"]
    do: Literal["refusal"]


class ResultOmit(_ResultRule):
    """These fields never appear on the result (`cost`, `seed`, `imageUUID`, ...)."""

    on: Literal["result"]
    do: Literal["omit"]
    fields: tuple[str, ...] = Field(min_length=1, max_length=16)


class ResultUrl(_ResultRule):
    """The result's `imageURL` is this one instead; `{image_uuid}` and `{name}` (uuid.ext) are filled in."""

    on: Literal["result"]
    do: Literal["url"]
    url: str = Field(min_length=1, max_length=2048)


class AnswerStatus(Refusal):
    """The question is answered with `status`."""

    on: Literal["response", "details", "search"]
    do: Literal["status"]


class AnswerBreak(Rule):
    """The connection breaks; `sent_bytes` of the answer got out."""

    on: Literal["response", "details", "search"]
    do: Literal["break"]
    sent_bytes: int | None = Field(None, ge=0)


class AnswerHang(Rule):
    """No answer comes for `seconds`, then the connection breaks."""

    on: Literal["response", "details", "search"]
    do: Literal["hang"]
    seconds: Seconds = 3600


class AnswerSlow(Rule):
    """The answer comes `seconds` later."""

    on: Literal["response", "details", "search"]
    do: Literal["slow"]
    seconds: Seconds


class AnswerMalformed(Rule):
    """HTTP 200 with a body of no use."""

    on: Literal["response", "details", "search"]
    do: Literal["malformed"]
    kind: Malformed = "not_json"


class AnswerEmpty(Rule):
    """HTTP 200 with `{"data":[]}`."""

    on: Literal["response", "details", "search"]
    do: Literal["empty"]


class ResponseProcessing(Rule):
    """This task looks like `processing`, whatever it is."""

    level: ClassVar[Level] = "row"
    on: Literal["response"]
    do: Literal["processing"]


class ResponsePoison(Rule):
    """The task's rows are real, and one field of each carries what breaks parsers and databases."""

    level: ClassVar[Level] = "row"
    on: Literal["response"]
    do: Literal["poison"]
    kind: Poison


class ResponseErrorsInData(Rule):
    """Errors come as `data[].status: "error"` with an `error` object, instead of in `errors`."""

    level: ClassVar[Level] = "row"
    on: Literal["response"]
    do: Literal["errors_in_data"]


class DetailsUnknown(Rule):
    """The task is not known, finished or not."""

    level: ClassVar[Level] = "row"
    on: Literal["details"]
    do: Literal["unknown"]


DispatchFault = DispatchStatus | DispatchBreak | DispatchHang | DispatchSlow | DispatchWebhookFirst
TaskFault = TaskError | TaskMore | TaskFewer | TaskSlow | TaskStuck
ResultFault = ResultError | ResultRefusal | ResultOmit | ResultUrl
AnswerFault = AnswerStatus | AnswerBreak | AnswerHang | AnswerSlow | AnswerMalformed | AnswerEmpty
RowFault = ResponseProcessing | ResponsePoison | ResponseErrorsInData | DetailsUnknown
