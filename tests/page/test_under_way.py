"""While a picture is made: where it stands, how it goes on after a reload or a new start of the server, how it ends."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from browsing import SLOW_STEPS, Open, Ui, Watch, served
from shapes import BLUE, SCENE

REFUSED = ("CONNECTION_REFUSED", "INCOMPLETE_CHUNKED", "CONNECTION_RESET", "EMPTY_RESPONSE")
LOST = rf"ERR_({'|'.join(REFUSED)})|fetching the script|status of (404|503)"


def begin(ui: Ui, steps: int, variants: int = 1) -> None:
    """Ask for pictures, and wait until the first is being made."""
    ui.bring(SCENE)
    ui.instruction.fill(BLUE)
    ui.set("steps", steps)
    ui.compose.get_by_label(ui.t("run.count"), exact=True).select_option(str(variants))
    ui.run()
    expect(ui.progress.get_by_role("listitem").first).to_contain_text(ui.like("progress.step", steps=steps))


def jobs(ui: Ui) -> list[dict[str, object]]:
    """What the server has been asked for."""
    answer: dict[str, list[dict[str, object]]] = ui.page.request.get(f"{ui.server.address}/v1/jobs").json()
    return answer["data"]


def test_place_steps_time_left_and_preview(slow: Ui) -> None:
    begin(slow, 40, variants=2)
    first, second = slow.progress.get_by_role("listitem").all()
    expect(first).to_contain_text(slow.like("progress.left"))
    expect(first.get_by_role("progressbar")).to_have_attribute("max", "40")
    expect(second).to_contain_text(slow.t("progress.place", n=1))
    expect(second).to_contain_text(slow.like("progress.left"))
    preview = slow.progress.get_by_role("img", name=slow.t("progress.preview"))
    expect(preview).to_be_visible()
    shown = preview.get_attribute("src")
    assert shown is not None
    expect(preview).not_to_have_attribute("src", shown)  # it changes as it goes on
    expect(slow.progress.locator("[aria-live=polite]")).to_contain_text(slow.like("progress.step"))
    slow.page.keyboard.press("Escape")
    slow.has(1)


def test_one_is_cancelled_and_the_others_go_on(slow: Ui) -> None:
    begin(slow, 8, variants=2)
    before = len(jobs(slow))
    slow.progress.get_by_role("listitem").first.get_by_role("button").click()
    slow.has(2)
    assert sorted(str(job["state"]) for job in jobs(slow)[before - 2 :]) == ["cancelled", "done"]
    expect(slow.page.get_by_role("alert").filter(has_text=slow.t("problem.title"))).to_have_count(0)


def test_escape_cancels_all(slow: Ui) -> None:
    begin(slow, 100, variants=4)
    slow.page.keyboard.press("Escape")
    slow.has(1)
    assert [job["state"] for job in jobs(slow)[-4:]] == ["cancelled"] * 4


def test_a_reload_in_the_middle_loses_nothing(slow: Ui) -> None:
    """Nothing is asked for twice, and what was composed is there again."""
    begin(slow, 12)
    before = len(jobs(slow))
    slow.page.reload()
    expect(slow.progress.get_by_role("listitem")).to_contain_text(slow.like("progress.step", steps=12))
    expect(slow.instruction).to_have_value(BLUE)
    expect(slow.control("steps")).to_have_value("12")
    slow.has(2)
    assert len(jobs(slow)) == before


def test_what_was_under_way_when_the_page_was_closed_is_there_when_it_is_opened(slow: Ui, opening: Open) -> None:
    begin(slow, 6)
    context = slow.page.context
    slow.page.close()
    opening(slow.server, context=context).has(2)


def test_two_pages_at_once(slow: Ui, opening: Open) -> None:
    """Both see what either asks for; each picture is in the history once."""
    other = opening(slow.server, context=slow.page.context)
    begin(slow, 6)
    slow.page.bring_to_front()
    begin(other, 6)
    other.has(4)
    slow.has(4)
    slow.page.reload()
    slow.has(4)


def test_the_server_is_killed_and_started_again(opening: Open, watch: Watch, tmp_path: Path) -> None:
    """What it was making is asked for again, once, and the page says so."""
    watch.expect(LOST)
    with served(tmp_path, *SLOW_STEPS) as first:
        ui = opening(first)
        begin(ui, 20)
        first.process.kill()
        first.process.wait()
        expect(ui.page.get_by_text(ui.like("problem.banner")).first).to_be_visible()
        expect(ui.progress).to_contain_text(ui.t("progress.lost"))
        port = int(first.address.rsplit(":", 1)[1])
    with served(tmp_path, *SLOW_STEPS, port=port):
        ui.button("action.now").click()
        expect(ui.progress).to_contain_text(ui.t("progress.resent"))
        ui.has(2)
        expect(ui.page.get_by_text(ui.like("problem.banner"))).to_have_count(0)
        assert [job["state"] for job in jobs(ui)] == ["done"]


def test_a_server_that_is_not_there_yet(opening: Open, watch: Watch, tmp_path: Path) -> None:
    """The page was opened before; it waits, and what is asked for meanwhile is sent then."""
    watch.expect(LOST)
    with served(tmp_path, "--backend", "null") as first:
        ui = opening(first)
    port = int(first.address.rsplit(":", 1)[1])
    ui.bring(SCENE)
    ui.instruction.fill(BLUE)
    ui.run()
    expect(ui.progress).to_contain_text(ui.t("progress.lost"))
    with served(tmp_path, "--backend", "null", port=port):
        ui.has(2)


def test_a_full_server_is_asked_again_when_it_has_room(opening: Open, watch: Watch, tmp_path: Path) -> None:
    watch.expect("status of 429")
    with served(tmp_path, *SLOW_STEPS, "--max-batch", "1", "--queue", "0") as server:
        ui = opening(server)
        begin(ui, 12)
        ui.run()
        expect(ui.progress).to_contain_text(ui.like("progress.waiting"))
        ui.has(3)


ERRORS = [
    (400, {"code": "invalid_value", "message": "steps is 0. Choose 1 to 1000.", "param": "steps"}, {}),
    (413, {"code": "request_too_large", "message": "The body is too large. Send smaller pictures.", "param": None}, {}),
    (415, {"code": "unsupported", "message": "This is no picture. Send PNG.", "param": "image"}, {}),
    (500, {"code": "server_error", "message": "The server failed; its log says where.", "param": None}, {}),
    (504, {"code": "deadline", "message": "Too late. Ask without a deadline.", "param": None}, {}),
    (507, {"code": "out_of_memory", "message": "There is no memory for it. Make it smaller.", "param": None}, {}),
]


def test_thirty_errors_one_after_another(ui: Ui, watch: Watch) -> None:
    """Each is said in the server's words, at its field if it names one; none is left over, and then it works."""
    watch.expect("status of (4|5)")
    count = 0

    def refuse(route: Route) -> None:
        nonlocal count
        if route.request.method != "POST" or count >= 30:
            route.fallback()
            return
        status, error, headers = ERRORS[count % len(ERRORS)]
        count += 1
        route.fulfill(
            status=status, headers=headers, content_type="application/json", body=json.dumps({"error": error})
        )

    ui.page.route("**/v1/jobs", refuse)
    ui.bring(SCENE)
    ui.instruction.fill(BLUE)
    ui.set("steps", 1)
    for number in range(30):
        ui.run()
        expect(ui.page.get_by_text(str(ERRORS[number % len(ERRORS)][1]["message"])).first).to_be_visible()
    expect(ui.page.get_by_text(ui.t("problem.title"))).to_have_count(1)
    ui.run()
    ui.has(2)
    expect(ui.page.get_by_text(ui.t("problem.title"))).to_have_count(0)


def test_a_job_that_fails_is_said_and_tried_again(ui: Ui, watch: Watch) -> None:
    watch.expect("status of 500")
    refused = [True]

    def refuse(route: Route) -> None:
        if route.request.method == "POST" and refused.pop():
            error = {"message": "The server failed; its log says where.", "code": "server_error", "param": None}
            refused.append(False)
            route.fulfill(status=500, content_type="application/json", body=json.dumps({"error": error}))
        else:
            refused.append(False)
            route.fallback()

    ui.page.route("**/v1/jobs", refuse)
    ui.bring(SCENE)
    ui.set("steps", 1)
    ui.instruction.fill(BLUE)
    ui.run()
    alert = ui.page.get_by_role("alert").filter(has_text=ui.t("problem.title"))
    expect(alert).to_contain_text("its log says where")
    ui.button("action.again", alert).click()
    ui.has(2)
    expect(ui.page.get_by_text(ui.t("problem.title"))).to_have_count(0)


def test_an_answer_that_is_none_of_the_servers(ui: Ui, watch: Watch) -> None:
    """A proxy's page of an error: the server is not reached, and the page waits for it."""
    watch.expect("status of 502")
    proxied = [True]

    def gateway(route: Route) -> None:
        if proxied.pop() if proxied else False:
            route.fulfill(status=502, content_type="text/html", body="<h1>Bad gateway</h1>")
        else:
            route.fallback()

    ui.page.route("**/v1/jobs", gateway)
    ui.bring(SCENE)
    ui.edit(BLUE, steps=1)


@pytest.fixture
def locked(tmp_path: Path) -> "tuple[Path, str]":
    """A file of keys, and the key in it."""
    from pixrt.serve.guard.keys import new_key

    key, line = new_key("anna")
    file = tmp_path / "keys"
    file.write_text(line)
    file.chmod(0o600)
    return file, key


def test_a_key_is_asked_for_and_kept_in_the_tab(
    opening: Open, watch: Watch, tmp_path: Path, locked: tuple[Path, str]
) -> None:
    watch.expect("status of 401")
    file, key = locked
    with served(tmp_path, "--backend", "null", "--keys-file", str(file)) as server:
        ui = opening(server, is_ready=False)
        expect(ui.dialog).to_contain_text(ui.t("key.title"))
        field = ui.dialog.get_by_label(ui.t("header.key"))
        field.fill("wrong")
        ui.button("key.use", ui.dialog).click()
        expect(ui.dialog).to_contain_text(ui.t("key.wrong"))
        ui.dialog.get_by_label(ui.t("header.key")).fill(key)
        ui.button("key.use", ui.dialog).click()
        expect(ui.dialog).to_have_count(0)
        ui.bring(SCENE)
        ui.edit(BLUE, steps=1)
        ui.page.reload()
        ui.has(2)
        ui.edit(BLUE, steps=1)
        other = opening(server, is_ready=False)
        expect(other.dialog).to_contain_text(other.t("key.title"))


def test_a_key_in_the_address_is_taken_and_removed_there(
    opening: Open, tmp_path: Path, locked: tuple[Path, str]
) -> None:
    file, key = locked
    with served(tmp_path, "--backend", "null", "--keys-file", str(file)) as server:
        ui = opening(server, f"#key={key}")
        assert ui.page.url == f"{server.address}/"
        ui.bring(SCENE)
        ui.edit(BLUE, steps=1)
        assert key not in ui.page.content()
