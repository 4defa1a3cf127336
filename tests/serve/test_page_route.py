"""The page as the server answers it: without a key, to GET and HEAD, by no other name than the server's."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from asking import ask
from guarded import GuardedService, answered, guarded
from pixrt.options.serve import ServeOptions
from pixrt.page.files import INDEX, read_page
from pixrt.serve.guard.keys import Keys, new_key


@pytest.fixture
def locked(tmp_path: Path) -> Any:
    """A server that wants a key."""
    _, line = new_key("anna")
    file = tmp_path / "keys"
    file.write_text(f"{line}\n")
    file.chmod(0o600)
    return guarded(GuardedService(ServeOptions(keys_file=file)), Keys(file))


def test_every_file_is_read_without_a_key(locked: Any) -> None:
    for name, file in read_page().items():
        path = "/" if name == INDEX else f"/page/{name}"
        answer = ask(locked, path, headers={"accept-encoding": "gzip"})
        # The first names the others under a version of all of them.
        said = re.sub(rb'"page/[0-9a-f]{16}/', b'"page/', answer.content) if name == INDEX else answer.content
        assert (answer.status_code, said) == (200, file.data), path
        assert answer.headers["content-type"] == file.media_type
        head = ask(locked, path, "HEAD", headers={"accept-encoding": "gzip"})
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == answer.headers["content-length"]
        again = ask(locked, path, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_one_policy_and_one_rule_for_caches(locked: Any) -> None:
    answer = ask(locked, "/")
    assert answer.headers.get_list("content-security-policy") == [answer.headers["content-security-policy"]]
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers.get_list("cache-control") == ["no-cache"]
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/page/app.js"])
def test_the_page_is_only_read(locked: Any, method: str, path: str) -> None:
    assert ask(locked, path, method).status_code == 401
    answer = ask(guarded(GuardedService()), path, method)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path",
    ["/v1/schema", "/v1/models", "/v1/jobs", "/metrics", "/openapi.json", "/index.html", "/pages", "/nowhere"],
)
def test_everything_else_wants_its_key(locked: Any, path: str) -> None:
    assert ask(locked, path).status_code == 401


def test_what_is_not_there(locked: Any) -> None:
    for path in (
        "/page/",
        "/page",
        "/page/nothing.js",
        "/page/index.html",
        "/page/%2e%2e/files.py",
    ):
        answer = ask(locked, path)
        assert answer.status_code == 404, path
        assert answer.json()["error"]["code"] == "not_found"


def test_it_is_there_while_the_model_is_loaded() -> None:
    assert ask(guarded(GuardedService(is_ready=False, model=None)), "/").status_code == 200


def test_another_name_is_refused() -> None:
    service = GuardedService()
    assert ask(guarded(service), "/", headers={"host": "evil.example"}).status_code == 421
    assert ask(guarded(service), "/", headers={"origin": "https://evil.example"}).status_code == 403


def test_it_counts_for_itself_and_says_little(caplog: pytest.LogCaptureFixture) -> None:
    service = GuardedService(ServeOptions(rate="1/hour"))
    app = guarded(service)
    with caplog.at_level(logging.INFO, "pixrt"):
        for _ in range(3):
            ask(app, "/page/app.js")
        ask(app, "/")
    assert answered(service) == {("page", "200"): 4}
    assert caplog.records == []
