from pathlib import Path

import pytest
from pydantic import ValidationError
from redis.connection import parse_url

from service.settings import Settings, check_exposure, is_loopback


def test_defaults_are_those_of_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "MODELS", "HOST", "PORT", "API_KEY"):
        monkeypatch.delenv(f"STOCHCON_{name}", raising=False)
    settings = Settings()
    assert (str(settings.data), settings.host, settings.port) == ("data", "127.0.0.1", 8000)
    assert settings.models.name == "models"
    assert settings.api_key is None
    assert settings.max_image_bytes == 32 * 2**20
    assert settings.max_image_pixels == 100_000_000
    assert settings.max_images == 64
    assert settings.max_body_bytes == 128 * 2**20
    assert settings.max_codes == 10_000


def test_an_argument_beats_the_environment_which_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCHCON_PORT", "9000")
    monkeypatch.setenv("STOCHCON_HOST", "127.0.0.2")
    settings = Settings(port=9001)
    assert (settings.port, settings.host) == (9001, "127.0.0.2")


def test_the_key_is_not_shown_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCHCON_API_KEY", "very-secret")
    settings = Settings()
    assert "very-secret" not in repr(settings)
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "very-secret"


def test_unknown_providers_are_refused() -> None:
    with pytest.raises(ValidationError):
        Settings(provider="tpu")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1", "[::1]"])
def test_loopback_needs_no_key(host: str) -> None:
    assert is_loopback(host)
    check_exposure(Settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_any_other_address_needs_a_key_or_a_word(host: str) -> None:
    with pytest.raises(ValueError, match="STOCHCON_API_KEY"):
        check_exposure(Settings(host=host))
    check_exposure(Settings(host=host, api_key="secret"))
    check_exposure(Settings(host=host, insecure=True))


def test_an_empty_key_is_no_key() -> None:
    with pytest.raises(ValueError, match="empty"):
        check_exposure(Settings(host="0.0.0.0", api_key=""))


SECRETS = {
    name: field for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
}


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("from the file\n")
    return file


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_lie_in_a_file(name: str, secret_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"STOCHCON_{name.upper()}_FILE", str(secret_file))
    assert getattr(Settings(), name).get_secret_value() == "from the file"


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_in_a_variable_beats_the_file_and_an_argument_beats_both(
    name: str, secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"STOCHCON_{name.upper()}_FILE", str(secret_file))
    monkeypatch.setenv(f"STOCHCON_{name.upper()}", "from the variable")
    assert getattr(Settings(), name).get_secret_value() == "from the variable"
    assert getattr(Settings(**{name: "given"}), name).get_secret_value() == "given"


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("content", [None, "", "\n", b"\xff"])
def test_a_file_of_a_secret_that_holds_none_is_an_error_that_names_it(
    name: str, content: str | bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.setenv(f"STOCHCON_{name.upper()}_FILE", str(file))
    with pytest.raises(ValidationError, match=f"{file}, which STOCHCON_{name.upper()}_FILE names"):
        Settings()


@pytest.mark.parametrize(
    ("url", "password", "wanted"),
    [
        ("redis://cache:6379/0", None, {"host": "cache", "port": 6379, "db": 0}),
        ("redis://cache:6379/0", "p", {"host": "cache", "port": 6379, "db": 0, "password": "p"}),
        ("redis://cache", "a/b@c:d%", {"host": "cache", "password": "a/b@c:d%"}),
        ("rediss://jobs@cache/2", "p", {"host": "cache", "db": 2, "username": "jobs", "password": "p"}),
        ("redis://jobs:old@cache", "new", {"host": "cache", "username": "jobs", "password": "new"}),
        ("unix:///run/redis.sock", "p", {"path": "/run/redis.sock", "password": "p"}),
    ],
)
def test_the_password_of_redis_goes_into_its_url(
    url: str, password: str | None, wanted: dict[str, object]
) -> None:
    address = Settings(redis_url=url, redis_password=password).redis_address
    assert address is not None
    read = parse_url(address)
    assert {key: read[key] for key in read if key != "connection_class"} == wanted


def test_a_password_alone_makes_no_address_of_redis() -> None:
    assert Settings(redis_password="p").redis_address is None


def test_no_secret_of_redis_is_shown_when_settings_are_printed() -> None:
    shown = repr(Settings(redis_url="redis://:very-secret@cache", redis_password="very-secret"))
    assert "very-secret" not in shown
