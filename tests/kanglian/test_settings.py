from pathlib import Path

import pytest

from kanglian.settings import VARIABLES, Settings, SettingsError, unknown_variables


def test_an_empty_environment_is_the_embedded_default() -> None:
    settings = Settings.read({})
    assert settings.embedded_default
    assert settings.base_url == "http://127.0.0.1:8000"
    assert settings.policy == "cn-county"
    assert settings.timezone == "Asia/Shanghai"
    assert settings.data_dir.name == ".data"
    assert settings.workers >= 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KANGLIAN_DATABASE_URL", "postgresql://kanglian@db/kanglian"),
        ("KANGLIAN_OIDC_ISSUER", "https://sso.example.cn/realms/kanglian"),
        ("KANGLIAN_HOST", "0.0.0.0"),  # noqa: S104 - a text, nothing listens
    ],
)
def test_what_ends_the_embedded_default(name: str, value: str) -> None:
    settings = Settings.read({name: value})
    assert not settings.embedded_default
    assert settings.policy == "cn-strict"


def test_other_settings_do_not_end_it() -> None:
    settings = Settings.read(
        {"KANGLIAN_PORT": "9000", "KANGLIAN_POLICY": "cn-strict", "KANGLIAN_WORKERS": "3", "KANGLIAN_HOST": "::1"}
    )
    assert settings.embedded_default
    assert settings.base_url == "http://[::1]:9000"
    assert (settings.policy, settings.workers) == ("cn-strict", 3)


def test_a_valkey_is_named_as_celery_names_it_and_a_part_without_broker_does_not_start() -> None:
    settings = Settings.read({"KANGLIAN_BROKER_URL": "valkey://:secret@broker:6379/0"})
    assert settings.broker_url == "redis://:secret@broker:6379/0"
    assert Settings.read({"KANGLIAN_BROKER_URL": "amqp://broker//"}).broker_url == "amqp://broker//"
    settings.check_broker()
    with pytest.raises(SettingsError, match="KANGLIAN_BROKER_URL"):
        Settings.read({}).check_broker()


def test_every_wrong_setting_is_named_at_once() -> None:
    wrong = {
        "KANGLIAN_PORT": "70000",
        "KANGLIAN_MLLP_PORT": "port",
        "KANGLIAN_BASE_URL": "kanglian.example",
        "KANGLIAN_DATABASE_URL": "mysql://x",
        "KANGLIAN_OIDC_ISSUER": "http://sso.example.cn",
        "KANGLIAN_POLICY": "open",
        "KANGLIAN_TIMEZONE": "Moon/Base",
        "KANGLIAN_WORKERS": "0",
        "KANGLIAN_HOST": "http://x",
        "KANGLIAN_DEMO_RESIDENTS": "-1",
        "KANGLIAN_CORS_ORIGINS": "https://app.example.cn/path",
        "KANGLIAN_BROKER_URL": "kafka://broker:9092",
    }
    with pytest.raises(SettingsError) as refused:
        Settings.read(wrong)
    assert len(refused.value.issues) == len(wrong)
    assert all(any(name in issue.diagnostics for issue in refused.value.issues) for name in wrong)


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Settings.read(dict.fromkeys(VARIABLES, "")) == Settings()


def test_misspelt_settings_are_told() -> None:
    assert unknown_variables({"KANGLIAN_PROT": "1", "KANGLIAN_PORT": "1", "PATH": "x"}) == ["KANGLIAN_PROT"]


def test_serving_others_without_an_issuer_is_refused() -> None:
    with pytest.raises(SettingsError, match="KANGLIAN_OIDC_ISSUER"):
        Settings.read({"KANGLIAN_DATABASE_URL": "postgresql://db/kanglian"}).check_serving()
    Settings.read({"KANGLIAN_OIDC_ISSUER": "https://sso.example.cn"}).check_serving()


def test_a_home_folder_is_understood() -> None:
    assert Settings.read({"KANGLIAN_DATA_DIR": "~/data"}).data_dir == Path.home() / "data"


def test_origins() -> None:
    assert Settings.read({}).cors_origins == frozenset()
    two = Settings.read({"KANGLIAN_CORS_ORIGINS": "https://a.example.cn, http://localhost:5173"})
    assert two.cors_origins == {"https://a.example.cn", "http://localhost:5173"}
    assert Settings.read({"KANGLIAN_CORS_ORIGINS": "*"}).cors_origins == {"*"}
