"""What an object store's refusal means, in one line for those who can mend it.

obstore's own message holds the address, the body of the answer (in which S3 quotes the id of the key and what was
signed) and a dump of its structures: nothing of that is for clients or logs.
"""

import re
from dataclasses import dataclass

from runware_provider.artifacts.store import said

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>|\(code: (\w{1,64})\)")
_ROLE = re.compile(r"Error performing \w+ \S*/(latest/api/token|latest/meta-data|computeMetadata|metadata/identity)")
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound"})
_OTHER_REGION = frozenset({"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"})

_CONNECTION = (
    ("BadScheme", "plain HTTP is spoken only to an S3_ENDPOINT that begins with http://"),
    ("ConnectionRefused", "the connection was refused"),
    ("dns error", "its host has no address"),
    ("InvalidCertificate", "its certificate is not one that this machine trusts"),
    ("TimedOut", "it did not answer in time"),
)


@dataclass(frozen=True, slots=True)
class Complaint:
    """`text`: for operators and clients. `status`: of HTTP, None when no answer came."""

    text: str
    status: int | None = None
    lasting: bool = False
    """It will not go away by itself: the settings or the bucket must be changed."""
    no_bucket: bool = False


def explain(error: BaseException, bucket: str) -> Complaint:
    """What `error`, which obstore raised for the bucket of this name, says."""
    text = str(error)
    if _ROLE.search(text):  # it was the machine that was asked for keys, and had none
        return Complaint(
            f"there are no keys for bucket {bucket}: set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY (for gs:// and "
            "az:// what they read themselves), or give this machine a role",
            lasting=True,
        )
    if "redirect without LOCATION" in text:
        return _other_region(bucket, None)
    status = _STATUS.search(text)
    code = _CODE.search(text)
    if status is None and "HTTP error" in text:
        reason = next((reason for mark, reason in _CONNECTION if mark in text), "the connection broke")
        return Complaint(f"bucket {bucket} cannot be reached: {reason}")
    if status is None and code is None:
        return Complaint(said(error))
    # A code without a status: S3 answers some refusals with 200 and says so in the body.
    return _answered(bucket, int(status[1]) if status else None, (code[1] or code[2]) if code else "")


def _answered(bucket: str, status: int | None, code: str) -> Complaint:
    answer = f"{status or ''} {code}".strip()
    if status == 404:
        return Complaint(
            f"there is no bucket {bucket} ({answer}): make it, or correct ARTIFACTS_URL or S3_ENDPOINT",
            status,
            lasting=True,
            no_bucket=code in _NO_BUCKET,
        )
    if code in _OTHER_REGION:
        return _other_region(bucket, status)
    if status in (401, 403) or code == "AccessDenied":
        return Complaint(
            f"bucket {bucket} refused ({answer}): check its keys (S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, or those "
            "of the environment), and that they may read, write, list and delete",
            status,
            lasting=True,
        )
    passing = status is None or status in (408, 429) or status >= 500
    return Complaint(f"bucket {bucket} answered {answer}", status, lasting=not passing)


def _other_region(bucket: str, status: int | None) -> Complaint:
    return Complaint(f"bucket {bucket} is in another region: set S3_REGION to it", status, lasting=True)
