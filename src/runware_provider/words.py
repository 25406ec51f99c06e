"""Errors, money and sizes in plain words, the same on the terminal and on a page."""

from collections.abc import Mapping
from typing import Any


def money(micros: int | None) -> str:
    """`$0.0038`; a dash for a cost that Runware did not say."""
    if micros is None:
        return "–"
    dollars, _, rest = f"{micros / 1_000_000:.6f}".partition(".")
    return f"${dollars}.{rest.rstrip('0').ljust(2, '0')}"


def about(micros: int | None) -> str:
    """The same as one says it: `$3.28`, and below ten cents `$0.0038`."""
    if micros is None:
        return "–"
    return f"${micros / 1_000_000:.2f}" if micros >= 100_000 or not micros else f"${micros / 1_000_000:.4f}"


def size(count: int) -> str:
    """Bytes as people read them."""
    number = float(count)
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            break
        number /= 1000
    return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"


def explain(error: Mapping[str, Any]) -> str:
    """One error of either level, as JSON has it, in plain words."""
    match error["code"]:
        case "http_error":
            return f"Runware answered HTTP {error['status']} after {error['attempts']} attempts: {error['body'][:200]}"
        case "network_error":
            return f"Runware could not be reached ({error['attempts']} attempts): {error['reason']}"
        case "api_rejected" | "webhook_error":
            words = [str(each.get("message") or each.get("code") or each) for each in error["errors"]]
            return "Runware says: " + ("; ".join(words) or "no reason")
        case "timeout":
            return f"{error['received']} of {error['expected']} results came in time; later ones are still kept"
        case "projection_failed":
            return f"stored, but the database refused it: {error['message']} (mend it, then replay)"
        case "fetch_failed":
            what = f"HTTP {error['status']}" if error["status"] else error["reason"]
            return f"the image could not be fetched: {what} ({error['attempts']} attempts)"
        case "content_rejected":
            return f"not kept ({error['reason']}): {error['message']}"
        case "storage_failed":
            return f"the object store refused it: {error['message']}"
        case "validation":
            return "an unknown delivery: " + "; ".join(error["issues"])
        case code:
            return str(code)


SHORT = {
    "http_error": "Runware failed",
    "network_error": "Runware unreachable",
    "api_rejected": "refused by Runware",
    "timeout": "no result in time",
    "projection_failed": "not in the database",
    "validation": "unknown delivery",
    "webhook_error": "failed at Runware",
    "fetch_failed": "could not be fetched",
    "content_rejected": "not an image we keep",
    "storage_failed": "could not be stored",
}
"""The same in two to five words, by code."""
