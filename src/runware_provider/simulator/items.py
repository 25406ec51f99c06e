"""Items: how a result or an error of a task is written, by webhook, in a sync answer and by `getResponse` alike."""

from base64 import b64encode

from runware_provider.simulator.darkroom import Darkroom
from runware_provider.simulator.ledger import Result
from runware_provider.simulator.validation import Inference
from runware_provider.simulator.wire import JsonObject

MIME = {"JPG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}


async def item_of(task: Inference, result: Result, darkroom: Darkroom) -> JsonObject:
    """The success item of a finished result; draws the picture when it is asked for inline."""
    item: JsonObject = {
        "taskType": "imageInference",
        "taskUUID": task.task_uuid,
        "imageUUID": result.image_uuid,
    }
    if result.url is not None:
        if task.output_type == "URL":
            item["imageURL"] = result.url
        else:
            text = b64encode(await darkroom.develop(result.picture, result.image_uuid)).decode("ascii")
            if task.output_type == "base64Data":
                item["imageBase64Data"] = text
            else:
                item["imageDataURI"] = f"data:{MIME[result.picture.format]};base64,{text}"
    item["seed"] = result.seed
    if task.check_nsfw:
        item["NSFWContent"] = False
    if task.include_cost:
        item["cost"] = result.cost_micros / 1e6
    if task.count > 1:
        item["resultIndex"] = result.index
    for field in result.omitted:
        item.pop(field, None)
    return item


def error_of(task: Inference, error: JsonObject, result: Result | None = None) -> JsonObject:
    """An error of the task, or of one of its results; only some name the result."""
    named: JsonObject = {"taskType": "imageInference", "taskUUID": task.task_uuid}
    if result is not None and result.names_image:
        named["imageUUID"] = result.image_uuid
    return {**error, **named}
