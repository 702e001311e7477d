"""A bucket of a real S3 server, written by Amazon's own client."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bucket:
    client: Any
    name: str

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def put(self, *keys: str, data: bytes | None = None) -> None:
        """Objects that hold their own keys, unless there is other data."""
        for key in keys:
            self.client.put_object(Bucket=self.name, Key=key, Body=key.encode() if data is None else data)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def clear(self) -> None:
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name):
            for entry in page.get("Contents", ()):
                self.delete(entry["Key"])
