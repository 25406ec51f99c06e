"""What `imageInference` accepts: the checks that Runware documents, and the error it answers to each."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, get_args

from runware_provider.simulator.catalogue import models
from runware_provider.simulator.options import SimulatorOptions
from runware_provider.simulator.pictures import Format
from runware_provider.simulator.wire import JsonObject, Refused, error_object

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)
AIR = re.compile(r"[\w.+-]{1,64}:[\w.+-]{1,128}@[\w.+-]{1,128}", re.ASCII)
MAX_SEED = 2**63 - 1
MAX_TTL = 31_536_000
OutputType = Literal["URL", "base64Data", "dataURI"]


@dataclass(frozen=True, slots=True)
class Inference:
    """A valid `imageInference` task, with what was left out filled in."""

    task_uuid: str
    prompt: str
    model: str
    width: int
    height: int
    count: int
    seed: int | None
    format: Format
    quality: int
    output_type: OutputType
    include_cost: bool
    check_nsfw: bool
    ttl: int | None
    webhook_url: str | None
    sync: bool


def task_uuid_of(task: JsonObject) -> str:
    """The task's id. Raises `Refused` when it is missing or no UUIDv4."""
    task_uuid = task.get("taskUUID")
    task_type = task.get("taskType")
    if task_uuid is None:
        raise Refused(
            400, error_object("missingTaskUUID", "'taskUUID' is required.", parameter="taskUUID", task_type=task_type)
        )
    if not isinstance(task_uuid, str) or not UUID4.fullmatch(task_uuid):
        raise Refused(
            400,
            error_object(
                "invalidTaskUUID",
                "'taskUUID' must be a UUID v4.",
                parameter="taskUUID",
                task_type=task_type,
                task_uuid=task_uuid if isinstance(task_uuid, str) else None,
            ),
        )
    return task_uuid


def check_inference(task: JsonObject, options: SimulatorOptions) -> Inference:
    """The task as it will run; fields that nobody here knows are accepted. Raises `Refused` with the first mistake."""
    fields = _Fields(task, task_uuid_of(task))
    model = _model(fields, options)
    default = models().get(model, {})
    delivery = fields.one_of("deliveryMethod", ("sync", "async"), "sync")
    webhook_url = _webhook_url(fields)
    _unused(fields)
    return Inference(
        task_uuid=fields.task_uuid,
        prompt=_prompt(fields, options),
        model=model,
        width=fields.integer("width", default.get("defaultWidth", 1024), 128, 2048, multiplier=64),
        height=fields.integer("height", default.get("defaultHeight", 1024), 128, 2048, multiplier=64),
        count=fields.integer("numberResults", 1, 1, 20),
        seed=fields.integer("seed", -1, 0, MAX_SEED) if fields.has("seed") else None,
        format=fields.one_of("outputFormat", get_args(Format), "JPG"),
        quality=fields.integer("outputQuality", 95, 20, 99),
        output_type=_output_type(fields),
        include_cost=fields.boolean("includeCost"),
        check_nsfw=fields.boolean("checkNSFW"),
        ttl=fields.integer("ttl", 60, 60, MAX_TTL) if fields.has("ttl") else None,
        webhook_url=webhook_url,
        sync=delivery == "sync" and webhook_url is None,
    )


class _Fields:
    """Reads fields of one task; null counts as left out."""

    def __init__(self, task: JsonObject, task_uuid: str) -> None:
        self.task_uuid = task_uuid
        self._task = task

    def has(self, name: str) -> bool:
        return self._task.get(name) is not None

    def get(self, name: str) -> Any:
        return self._task.get(name)

    def refuse(self, name: str, message: str, *, kind: str = "invalid", **extra: Any) -> NoReturn:
        code = f"{kind}{name[0].upper()}{name[1:]}"
        raise Refused(
            400,
            error_object(code, message, parameter=name, task_type="imageInference", task_uuid=self.task_uuid, **extra),
        )

    def integer(self, name: str, default: int, least: int, most: int, multiplier: int = 1) -> int:
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most or value % multiplier:
            extra: dict[str, Any] = {"min": least, "max": most}
            steps = ""
            if multiplier > 1:
                extra["multiplier"] = multiplier
                steps = f" in steps of {multiplier}"
            self.refuse(name, f"'{name}' must be an integer between {least} and {most}{steps}.", **extra)
        return value

    def number(self, name: str, least: float, most: float) -> None:
        value = self.get(name)
        if value is None:
            return
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
            self.refuse(name, f"'{name}' must be a number between {least} and {most}.", min=least, max=most)

    def boolean(self, name: str) -> bool:
        value = self.get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            self.refuse(name, f"'{name}' must be true or false.")
        return value

    def one_of(self, name: str, allowed: Iterable[str], default: str) -> Any:
        value = self.get(name)
        if value is None:
            return default
        if value not in tuple(allowed):
            self.refuse(name, f"'{name}' must be one of {', '.join(allowed)}.", allowedValues=list(allowed))
        return value


def _prompt(fields: _Fields, options: SimulatorOptions) -> str:
    prompt = fields.get("positivePrompt")
    if prompt is None:
        fields.refuse("positivePrompt", "'positivePrompt' is required.", kind="missing")
    longest = options.max_prompt_chars
    if not isinstance(prompt, str) or not 2 <= len(prompt) <= longest:
        message = f"'positivePrompt' must be a string of 2 to {longest} characters."
        fields.refuse("positivePrompt", message, min=2, max=longest)
    negative = fields.get("negativePrompt")
    if negative is not None and (not isinstance(negative, str) or len(negative) > longest):
        fields.refuse("negativePrompt", f"'negativePrompt' must be a string of at most {longest} characters.")
    return prompt


def _model(fields: _Fields, options: SimulatorOptions) -> str:
    model = fields.get("model")
    if model is None:
        fields.refuse("model", "'model' is required.", kind="missing")
    if not isinstance(model, str) or not AIR.fullmatch(model):
        fields.refuse("model", "'model' must be an AIR id such as runware:101@1.")
    if options.unknown_models == "refuse" and model not in models():
        fields.refuse("model", f"There is no model {model}.")
    return model


def _output_type(fields: _Fields) -> OutputType:
    value = fields.get("outputType")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        return "URL"
    known: tuple[OutputType, ...] = get_args(OutputType)
    if value not in known:
        fields.refuse("outputType", f"'outputType' must be one of {', '.join(known)}.")
    return known[known.index(value)]


def _webhook_url(fields: _Fields) -> str | None:
    url = fields.get("webhookURL")
    if url is None:
        return None
    if not isinstance(url, str) or len(url) > 4096 or not re.match(r"https?://[^/?#\s]+", url):
        fields.refuse("webhookURL", "'webhookURL' must be an absolute http or https URL.")
    return url


def _unused(fields: _Fields) -> None:
    """Fields that change nothing here, but that Runware checks."""
    fields.integer("steps", 0, 1, 100)
    fields.number("CFGScale", 0, 50)
    fields.number("strength", 0, 1)
    for name in ("scheduler", "seedImage", "maskImage"):
        if fields.has(name) and not isinstance(fields.get(name), str):
            fields.refuse(name, f"'{name}' must be a string.")
