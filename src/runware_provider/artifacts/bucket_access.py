"""Which addresses name a bucket, and what is set to reach it. Known without obstore, which a folder does not need."""

from dataclasses import dataclass

from pydantic import SecretStr

from runware_provider.errors import ConfigurationError

SCHEMES = {
    "s3": "s3://bucket/prefix",
    "r2": "r2://account/bucket/prefix",
    "gs": "gs://bucket/prefix",
    "az": "az://container/prefix",
}


@dataclass(frozen=True, slots=True)
class BucketAccess:
    """How an S3 is reached: `S3_ENDPOINT`, `S3_REGION`, `S3_ACCESS_KEY_ID`, `S3_SECRET_ACCESS_KEY`.

    With an endpoint, which is an http:// or https:// address, the bucket is the first part of the path.
    """

    endpoint: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None

    def __post_init__(self) -> None:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            missing = "S3_ACCESS_KEY_ID" if self.access_key_id is None else "S3_SECRET_ACCESS_KEY"
            raise ConfigurationError(f"{missing} is not set: the two keys of a bucket go together")

    @property
    def given(self) -> list[str]:
        """The settings that are set."""
        return [f"S3_{name.upper()}" for name in self.__slots__ if getattr(self, name) is not None]
