"""`pixrt serve` as a user types it: its checks, its keys, its errors, and a server that answers and ends."""

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from pixrt.cli import extras
from pixrt.options.serve import SERVE_SESSION, ServeOptions
from pixrt.serve.guard.keys import Keys
from shapes import BLUE, SCENE, Run

NULL = ("--backend", "null")


def test_a_new_key_is_told_with_its_line(run: Run, tmp_path: Path) -> None:
    outcome = run("serve", "--new-key", "anna")
    assert outcome.code == 0
    told = dict(line.split(": ", 1) for line in outcome.out.splitlines())
    file = tmp_path / "keys"
    file.write_text(told["line"])
    file.chmod(0o600)
    assert Keys(file).owner(told["key"].encode()) == "anna"
    assert "not shown again" in outcome.err
    assert told["key"] not in outcome.err


def test_check_opens_the_bundle_and_tells_what_holds(run: Run, tmp_path: Path) -> None:
    (tmp_path / "serve.toml").write_text('bundle = "shapes"\nport = 0\nqueue = 5\nbackend = "null"')
    outcome = run("serve", "--check", "--config", "serve.toml", "--queue", 6)
    assert (outcome.code, outcome.err) == (0, "")
    told = dict(line.split(": ", 1) for line in outcome.out.splitlines() if ": " in line)
    assert told["port"] == "0 (serve.toml)"
    assert told["queue"] == "6 (--queue)"
    assert told["max_batch"] == f"{SERVE_SESSION.max_batch} (default)"
    assert told["keys_file"] == "- (default)"
    assert (told["model"], told["runs on"]) == ("pixrt-shapes", "null")
    assert outcome.out.splitlines()[-1] == "all is well; nothing was served"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--host", "0.0.0.0"], 2, "there are no keys"),
        (["--port", "x"], 2, "port is 'x'"),
        (["--rate", "often"], 2, "60/minute"),
        (["--config", "none.toml"], 2, "no settings file none.toml"),
        (["--keys-file", "none"], 2, "keys file none cannot be read"),
        (["--lora-folder", "none"], 2, "no folder none"),
        (["--c2pa-cert", "none"], 2, "without c2pa_key"),
        (["--new-key", "a b"], 2, "letters, digits"),
        (["--check", "--port", "0", "--bundle", "nowhere", *NULL], 4, "nowhere"),
        (["--check", "--port", "0", "--backend", "none"], 2, "none"),
        (["--prot", "1"], 2, "--prot"),
    ],
)
def test_errors_are_one_line_with_the_usual_exit_code(run: Run, words: list[str], code: int, said: str) -> None:
    outcome = run("serve", *words)
    assert outcome.code == code, outcome.err
    assert said in outcome.err
    assert outcome.err.count("\n") == 1
    assert "nothing was served" not in outcome.out


@pytest.mark.parametrize(
    ("missing", "words", "said"),
    [
        ("uvicorn", [], "serving needs uvicorn, which cannot be imported here. Install what is missing: pip install "
         "'pixrt[serve]'"),
        ("opentelemetry.sdk", ["--otel"], "sending spans needs opentelemetry.sdk, .*'pixrt[otel]'"),
    ],
)  # fmt: skip
def test_packages_that_are_missing(
    run: Run, monkeypatch: pytest.MonkeyPatch, missing: str, words: list[str], said: str
) -> None:
    found = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == missing else found(name))
    outcome = run("serve", *words)
    assert outcome.code == 10
    for part in said.split(".*"):
        assert part in outcome.err


def test_variables_of_the_environment_are_settings_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXRT_SERVE_HOST", "0.0.0.0")
    assert "0.0.0.0" in run("serve").err
    monkeypatch.setenv("PIXRT_SERVE_HOST", "localhost")
    monkeypatch.setenv("PIXRT_SERVE_PORT", "-1")
    assert "PIXRT_SERVE_PORT: port is -1" in run("serve").err


def test_every_option_is_a_flag(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said = run("serve", "--help").out
    for name in ServeOptions.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in said


def test_a_server_prints_its_address_answers_and_ends(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from pixrt.cli import main; main()",
        "serve",
        "--port",
        "0",
        "--log-format",
        "json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            with httpx.Client(base_url=address, timeout=60) as client:
                assert client.get("/health/ready").status_code == 200
                form = {"prompt": BLUE, "num_inference_steps": "1", "seed": "1"}
                answer = client.post("/v1/images/edits", data=form, files={"image": SCENE.read_bytes()})
                assert answer.status_code == 200, answer.text
                metrics = client.get("/metrics").text
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, out) == (0, "")
    assert 'pixrt_pictures_total{outcome="done",task="edit"} 1.0' in metrics
    assert 'pixrt_requests_total{interface="openai",status="200"} 1.0' in metrics
    assert 'pixrt_call_rows_count{kind="step"} 1.0' in metrics
    assert BLUE not in err
