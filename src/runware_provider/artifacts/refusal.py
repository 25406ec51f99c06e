"""How an image that is not kept is told: as an exception inside this room, as a value everywhere else."""

from datetime import timedelta

from runware_provider.errors import OutputError, RejectReason, RunwareProviderError, content_rejected, fetch_failed


class NotKept(RunwareProviderError):
    """One try to keep an image failed, and nothing of it lies in the store.

    `error` is the output's error, ready to be committed. `retry_after`: for how long the CDN asked to be left alone,
    at most one hour; None when it did not ask.
    """

    def __init__(self, error: OutputError, retry_after: timedelta | None = None) -> None:
        self.error = error
        self.retry_after = retry_after
        super().__init__(f"{error.code}: {getattr(error, 'reason', '')} {getattr(error, 'message', '')}".rstrip())


class StoreUnavailable(RunwareProviderError):
    """The object store did not answer or refused. Try again."""


def rejected(reason: RejectReason, message: str) -> NotKept:
    """The bytes, or the address they should come from, are not what we keep."""
    return NotKept(content_rejected(reason, message))


def unreachable(url: str, reason: str, attempt: int) -> NotKept:
    """No complete answer came, so nothing is known about the image itself: worth trying for long."""
    return NotKept(fetch_failed(url, None, reason, attempts=attempt))
