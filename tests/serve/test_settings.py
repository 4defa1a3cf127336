"""Settings out of flags, the environment and a file: which one holds, what is refused, and what is told of them."""

import os
from pathlib import Path
from typing import Any

import pytest

from pixrt.errors import OptionError
from pixrt.options.fields import option_fields, rule_of
from pixrt.options.ray import RayOptions
from pixrt.options.serve import ServeOptions
from pixrt.options.session import SessionOptions
from pixrt.serve.settings import Settings, read_settings


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("PIXRT_SERVE_"):
            monkeypatch.delenv(name)


def written(folder: Path, text: str) -> Path:
    file = folder / "serve.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_flags_come_before_the_environment_and_that_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, 'bundle = "a"\nport = 1\nqueue = 2\nmax_batch = 3\nresult_seconds = 4')
    monkeypatch.setenv("PIXRT_SERVE_BUNDLE", "b")
    monkeypatch.setenv("PIXRT_SERVE_PORT", "10")
    monkeypatch.setenv("PIXRT_SERVE_QUEUE", "20")
    monkeypatch.setenv("PIXRT_SERVE_VERIFY", "false")
    settings = read_settings({"port": 100, "bundle": "c"}, file)
    assert (settings.bundle, settings.options.port, settings.options.queue) == ("c", 100, 20)
    assert (settings.session.max_batch, settings.session.verify) == (3, False)
    assert settings.options.result_seconds == 4.0
    assert settings.sources == {
        "bundle": "--bundle",
        "port": "--port",
        "queue": "PIXRT_SERVE_QUEUE",
        "verify": "PIXRT_SERVE_VERIFY",
        "max_batch": str(file),
        "result_seconds": str(file),
    }
    assert settings.notes == ()


def test_nothing_said_is_the_defaults() -> None:
    assert read_settings({}) == Settings()
    assert Settings().session == SessionOptions(max_batch=8)


OWNERS = (Settings, ServeOptions, SessionOptions, RayOptions)


def test_every_setting_has_one_owner() -> None:
    names = [name for owner in OWNERS for name in option_fields(owner)]
    assert len(set(names)) == len(names)
    assert [name for name, _, _ in Settings().describe()] == names


def test_pairs_are_a_table_in_the_file_and_json_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, '[provider_options]\ndevice_id = "1"')
    assert read_settings({}, file).session.provider_options == {"device_id": "1"}
    monkeypatch.setenv("PIXRT_SERVE_PROVIDER_OPTIONS", '{"device_id": "0"}')
    settings = read_settings({}, file)
    assert settings.session.provider_options == {"device_id": "0"}
    monkeypatch.setenv("PIXRT_SERVE_PROVIDER_OPTIONS", "device_id=0")
    with pytest.raises(OptionError, match="PIXRT_SERVE_PROVIDER_OPTIONS: provider_options is 'device_id=0'"):
        read_settings({}, file)


def test_a_path_in_the_file_is_seen_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, f'keys_file = "keys"\nlora_folder = "{tmp_path}/loras"')
    settings = read_settings({}, file)
    assert settings.options.keys_file == tmp_path / "keys"
    assert settings.options.lora_folder == tmp_path / "loras"
    monkeypatch.setenv("PIXRT_SERVE_KEYS_FILE", "mine")
    assert read_settings({}, file).options.keys_file == Path("mine")
    monkeypatch.setenv("PIXRT_SERVE_KEYS_FILE", "")
    assert read_settings({}, file).options.keys_file is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", r"serve.toml: there is no setting 'prot'\. Did you mean port\."),
        ("wholly_else = 1", r"serve.toml: there is no setting 'wholly_else'\. Known are bundle, metadata"),
        ("port = 'x'", r"serve.toml: port is 'x', which is not a whole number\. It must be from 0 to 65535\."),
        ("port = 70000", r"serve.toml: port is 70000\. It must be from 0 to 65535\."),
        ("keys_file = 3", r"serve.toml: keys_file is 3, which is no path"),
        ("log_format = 'xml'", r"serve.toml: log_format is 'xml'\. Choose one of text, json\."),
        ("port = \nqueue = 3", r"serve.toml is no TOML: .*line 1"),
        ("[session]\nport = 1", r"there is no setting 'session'"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        read_settings({}, written(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"no settings file .*none.toml\. Check --config"):
        read_settings({}, tmp_path / "none.toml")


def test_a_wrong_variable_is_named_and_a_strange_one_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXRT_SERVE_SERVICE_HOST", "10.0.0.1")  # Kubernetes' own
    monkeypatch.setenv("PIXRT_SERVE_QUEU", "3")
    notes = read_settings({}).notes
    assert [note.split()[2] for note in notes] == ["PIXRT_SERVE_QUEU", "PIXRT_SERVE_SERVICE_HOST"]
    assert "Did you mean queue" in notes[0]
    monkeypatch.setenv("PIXRT_SERVE_PORT", "tcp://10.0.0.1:80")
    with pytest.raises(OptionError, match=r"PIXRT_SERVE_PORT: port is 'tcp://10.0.0.1:80'") as caught:
        read_settings({})
    assert caught.value.option == "port"


@pytest.mark.parametrize("rate", ["fast", "60", "60/fortnight"])
def test_a_rate_that_is_none(rate: str) -> None:
    with pytest.raises(OptionError, match="60/minute"):
        read_settings({"rate": rate})
    assert read_settings({"rate": "5/second"}).options.rate == "5/second"


def test_what_is_told_has_sources_and_no_secrets(tmp_path: Path) -> None:
    file = written(tmp_path, 'queue = 5\n[provider_options]\npassword = "hush"')
    told = {name: (value, source) for name, value, source in read_settings({"insecure": True}, file).describe()}
    assert told["queue"] == ("5", str(file))
    assert told["insecure"] == ("true", "--insecure")
    assert told["port"] == ("8765", "default")
    assert told["keys_file"] == ("", "default")
    assert told["provider_options"] == ("password", str(file))
    assert "hush" not in str(told)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_needs_no_key(host: str) -> None:
    options = ServeOptions(host=host)
    assert options.is_loopback
    assert options.hosts is not None
    assert {"localhost", "127.0.0.1", "[::1]"} <= options.hosts


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", ""])
def test_other_addresses_need_a_key_or_courage(host: str) -> None:
    with pytest.raises(OptionError, match=r"--new-key NAME.*--keys-file.*--insecure"):
        ServeOptions(host=host)
    assert ServeOptions(host=host, insecure=True).hosts is None
    assert ServeOptions(host=host, keys_file=Path("keys")).hosts is None


@pytest.mark.parametrize(
    ("given", "hosts"),
    [
        ({"allowed_hosts": "pictures.example, PIXRT"}, {"pictures.example", "pixrt"}),
        ({"allowed_hosts": "pixrt", "host": "::", "insecure": True}, {"pixrt"}),
        ({"allowed_hosts": "*"}, None),
    ],
)
def test_names_by_which_the_server_is_called(given: dict[str, Any], hosts: set[str] | None) -> None:
    assert ServeOptions(**given).hosts == hosts


def test_signing_needs_both_files() -> None:
    with pytest.raises(OptionError, match="c2pa_cert is given without c2pa_key"):
        ServeOptions(c2pa_cert=Path("chain.pem"))
    with pytest.raises(OptionError, match="c2pa_key is given without c2pa_cert"):
        ServeOptions(c2pa_key=Path("key.pem"))


def test_paths_are_never_texts() -> None:
    """What makes a path out of a text is settings.py; the schema, which is for clients, has none."""
    from pixrt.options.parsing import parse
    from pixrt.options.schema import json_schema

    paths = {name: each for name, each in option_fields(ServeOptions).items() if rule_of(each).kind == "path"}
    assert set(paths) == {"keys_file", "lora_folder", "embedding_folder", "c2pa_cert", "c2pa_key"}
    for each in paths.values():
        with pytest.raises(OptionError, match="no path"):
            parse(each, "/etc/passwd")
    assert not paths.keys() & json_schema(ServeOptions, "serve", {})["properties"].keys()
