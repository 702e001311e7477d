import pytest
from pydantic import ValidationError

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
