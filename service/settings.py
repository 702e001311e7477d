"""The service's settings: environment variables `STOCHCON_*`, under whatever the command line says.

A secret may lie in a file instead, as container platforms hand them out: `STOCHCON_API_KEY_FILE` names the
file with the value of `STOCHCON_API_KEY`, and so for each field of type SecretStr.
"""

import ipaddress
import os
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from contracts.model_file import SHIPPED_MODELS
from contracts.pixels import ImageLimits
from service.encoding.encoder import EncoderSettings
from service.encoding.session import ProviderChoice


class Settings(BaseSettings):
    """Built once, passed down. A keyword argument beats `STOCHCON_<NAME>`, which beats the default.

    For secrets `STOCHCON_<NAME>_FILE` comes between the last two.
    """

    model_config = SettingsConfigDict(env_prefix="STOCHCON_", frozen=True, extra="forbid")

    data: Path = Path("data")
    """Folder of the store."""
    models: Path = SHIPPED_MODELS
    """Folder of model files."""
    model: str | None = None
    """Name, id or path of the model to use; the newest that makes codes if not given."""
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    """0 takes any free port."""
    api_key: SecretStr | None = Field(default=None, validate_default=True)
    """What callers must send as `Authorization: Bearer KEY`."""
    insecure: bool = False
    """Allow an address that others can reach without an API key."""
    provider: ProviderChoice = "auto"
    """Execution provider of the model."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of the model, of decoding and of search; the cores that the process may use if not given."""

    roots: Annotated[tuple[str, ...], NoDecode] = ()
    """Folders, and URLs such as `s3://bucket/prefix`, that jobs may read; in the variable with commas
    between them."""
    redis_url: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("redis_url", "STOCHCON_REDIS_URL"),
        validate_default=True,
    )
    """Where jobs are kept, for workers on any host; a file in the data folder if not given."""
    redis_password: SecretStr | None = Field(default=None, validate_default=True)
    """Password of Redis, in place of one in its URL."""
    workers: int | None = Field(default=None, ge=0)
    """Processes for jobs that the service starts when there are any: by default one, and none with Redis."""

    keep_originals: bool = False
    """Keep the image files of uploads, so that another model can encode them again."""

    max_image_bytes: int = Field(default=32 * 2**20, gt=0)
    max_image_pixels: int = Field(default=100_000_000, gt=0)
    max_images: int = Field(default=64, gt=0)
    """Images in one request."""
    max_body_bytes: int = Field(default=128 * 2**20, gt=0)
    """Bytes of one request's body."""
    max_total_body_bytes: int = Field(default=512 * 2**20, gt=0)
    """Bytes of all requests' bodies held at once; beyond, 429."""
    body_timeout_s: float = Field(default=30.0, gt=0)
    """How long the next bytes of a body may take to come; beyond, 408."""
    shutdown_s: int = Field(default=30, ge=0)
    """How long requests may take to end once the service is told to stop."""
    max_codes: int = Field(default=10_000, gt=0)
    """Items with codes in one request."""
    max_queue_images: int = Field(default=512, gt=0)
    """Images that wait for their codes at once; beyond, 429."""
    max_queue_bytes: int = Field(default=256 * 2**20, gt=0)
    """Bytes of image files that wait for decoding at once; beyond, 429."""

    @field_validator("roots", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("api_key", "redis_url", "redis_password", mode="before")
    @classmethod
    def _read_secret(cls, value: object, info: ValidationInfo) -> object:
        variable = f"STOCHCON_{info.field_name}_FILE".upper()
        path = os.environ.get(variable)
        if value is not None or path is None:
            return value
        try:
            secret = Path(path).read_text().strip()
        except (OSError, ValueError) as exc:
            raise ValueError(
                f"{path}, which {variable} names, cannot be read ({exc}): let the service's user read the "
                "file, or unset the variable"
            ) from exc
        if not secret:
            raise ValueError(f"{path}, which {variable} names, is empty: write the secret into it")
        return secret

    @property
    def redis_address(self) -> str | None:
        """URL of Redis, with the password if there is one."""
        if self.redis_url is None:
            return None
        url = self.redis_url.get_secret_value()
        if self.redis_password is None:
            return url
        parts = urlsplit(url)
        user, _, host = parts.netloc.rpartition("@")
        password = quote(self.redis_password.get_secret_value(), safe="")
        return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:{password}@{host}"))

    @property
    def num_workers(self) -> int:
        """Worker processes of the service's own."""
        if self.workers is not None:
            return self.workers
        return 0 if self.redis_url else 1

    def encoder_settings(self) -> EncoderSettings:
        """The part that the encoder needs."""
        return EncoderSettings(
            provider=self.provider,
            num_threads=self.threads,
            limits=ImageLimits(max_bytes=self.max_image_bytes, max_pixels=self.max_image_pixels),
            max_queue_images=self.max_queue_images,
            max_queue_bytes=self.max_queue_bytes,
        )


def check_exposure(settings: Settings) -> None:
    """Refuse to let others in unasked. Raises ValueError for an open address without a key."""
    if settings.api_key is not None and not settings.api_key.get_secret_value():
        raise ValueError("the API key is empty: set STOCHCON_API_KEY to a secret, or unset it")
    if is_loopback(settings.host) or settings.api_key is not None or settings.insecure:
        return
    raise ValueError(
        f"the address {settings.host} can be reached from other machines and no API key is set: "
        "set STOCHCON_API_KEY, use --host 127.0.0.1, or say --insecure if the network is trusted"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
