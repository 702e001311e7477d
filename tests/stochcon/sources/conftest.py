from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.stochcon.sources.bucket import Bucket


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """A server that speaks S3."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket, and an environment in which it is found."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    # What is left then is nobody's own configuration, and no waiting for what does not answer.
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    client = boto3.client("s3")
    opened = Bucket(client, "photos")
    client.create_bucket(Bucket=opened.name)
    yield opened
    opened.clear()
    client.delete_bucket(Bucket=opened.name)
    client.close()
