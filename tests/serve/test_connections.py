"""Connections of a real server, byte by byte: what is slow, too large, too many or broken, and what leaves; each counts
once.
"""

import asyncio
import json
import socket
import struct
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import httpx
import pytest

from guarded import GuardedService, answered, connected, live
from pixrt.options.serve import ServeOptions
from pixrt.serve.guard import connections
from pixrt.serve.tickets import State
from serving import PICTURE, end, hold

GET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/images/edits HTTP/1.1\r\nHost: localhost\r\n"


def run(work: Coroutine[Any, Any, None]) -> None:
    """A test's work; what hangs fails."""

    async def bounded() -> None:
        async with asyncio.timeout(30):
            await work

    asyncio.run(bounded())


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of one answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


async def counted(service: GuardedService, **expected: int) -> None:
    """Wait until these requests are counted, by their status, and hold that no others are."""
    wanted = {name.removeprefix("s"): value for name, value in expected.items()}
    while True:
        found: dict[str, int] = {}
        for (_, status), value in answered(service).items():
            found[status] = found.get(status, 0) + value
        if found == wanted:
            return
        assert all(found[status] <= wanted.get(status, 0) for status in found), found
        await asyncio.sleep(0.01)


def test_requests_one_after_another_on_one_connection() -> None:
    service = GuardedService(ServeOptions(header_seconds=0.3))

    async def work() -> None:
        async with live(service) as port, connected(port) as (reader, writer):
            for _ in range(3):
                writer.write(GET + b"\r\n")
                assert (await answer_of(reader))[0] == 200
                await asyncio.sleep(0.15)  # together longer than a head may take: each has its own time
            writer.write(GET + b"\r\n" + GET + b"\r\n")  # at once
            assert [(await answer_of(reader))[0] for _ in "12"] == [200, 200]
            await counted(service, s200=5)

    run(work())


def test_a_head_that_takes_too_long() -> None:
    service = GuardedService(ServeOptions(header_seconds=0.2))

    async def work() -> None:
        async with live(service) as port, connected(port) as (reader, writer):
            writer.write(GET)
            await asyncio.sleep(0.12)
            writer.write(b"X-More: 1\r\n")  # a byte now and then does not help
            status, body = await answer_of(reader)
            assert (status, json.loads(body)["error"]["code"]) == (408, "head_too_slow")
            assert await reader.read() == b""
            await counted(service, s408=1)

    run(work())


def test_a_second_head_that_takes_too_long() -> None:
    service = GuardedService(ServeOptions(header_seconds=0.2))

    async def work() -> None:
        async with live(service) as port, connected(port) as (reader, writer):
            writer.write(GET + b"\r\n")
            assert (await answer_of(reader))[0] == 200
            writer.write(b"G")
            assert (await answer_of(reader))[0] == 408
            await counted(service, s200=1, s408=1)

    run(work())


def test_a_connection_that_says_nothing_is_closed_and_is_no_request() -> None:
    service = GuardedService(ServeOptions(header_seconds=0.1))

    async def work() -> None:
        async with live(service) as port, connected(port) as (reader, _):
            assert await reader.read() == b""
            await counted(service)

    run(work())


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01 this is TLS\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (GET + b"X-Long: " + b"x" * 70_000, 431),
        (GET + b"".join(b"X-%d: y\r\n" % number for number in range(10_000)), 431),
    ],
)
def test_what_is_no_request(sent: bytes, status: int) -> None:
    service = GuardedService()

    async def work() -> None:
        async with live(service) as port, connected(port) as (reader, writer):
            writer.write(sent)
            assert (await answer_of(reader))[0] == status
            await counted(service, **{f"s{status}": 1})

    run(work())


def test_more_connections_than_may_be() -> None:
    service = GuardedService(ServeOptions(max_connections=2))

    async def work() -> None:
        async with live(service) as port:
            async with connected(port) as (reader, writer), connected(port) as (_, _):
                writer.write(GET + b"\r\n")
                assert (await answer_of(reader))[0] == 200
                async with connected(port) as (refused, _):
                    status, body = await answer_of(refused)
                    assert (status, json.loads(body)["error"]["code"]) == (503, "too_many_connections")
            await asyncio.sleep(0.05)
            async with connected(port) as (reader, writer):
                writer.write(GET + b"\r\n")
                assert (await answer_of(reader))[0] == 200, "there is room again"
            await counted(service, s200=2, s503=1)

    run(work())


def test_slow_bodies_are_closed_and_a_good_request_is_served_meanwhile() -> None:
    service = GuardedService(ServeOptions(body_idle_seconds=0.5))

    async def work() -> None:
        async with live(service) as port:
            slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
            for _, writer in slow:
                writer.write(POST + b"Content-Length: 1000\r\n\r\nhalf of it")
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                good = await client.post("/v1/images/edits", data={"prompt": "x"}, files={"image": PICTURE})
                assert good.status_code == 200
            for reader, writer in slow:
                assert (await answer_of(reader))[0] == 408
                assert await reader.read() == b""
                writer.close()
            await counted(service, s200=1, s408=50)

    run(work())


def test_a_refused_client_may_finish_its_body_and_go_on() -> None:
    """The answer comes before the body, which is read and thrown away: so that no client misses the answer."""
    service = GuardedService(is_full=True)
    body = b"x" * (4 << 20)

    async def work() -> None:
        async with live(service) as port, connected(port) as (reader, writer):
            writer.write(POST + f"Content-Length: {len(body)}\r\n\r\n".encode())
            assert (await answer_of(reader))[0] == 429
            writer.write(body)
            await writer.drain()
            writer.write(GET + b"\r\n")
            assert (await answer_of(reader))[0] == 200
            await counted(service, s429=1, s200=1)

    run(work())


def test_a_refused_client_that_does_not_finish_its_body_is_closed() -> None:
    service = GuardedService(ServeOptions(header_seconds=0.2), is_full=True)

    async def work() -> None:
        async with live(service) as port, connected(port) as (reader, writer):
            writer.write(POST + b"Content-Length: 1000000\r\n\r\n")
            assert (await answer_of(reader))[0] == 429
            with pytest.raises(ConnectionError):  # noqa: PT012
                while True:
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.02)
            await counted(service, s429=1)

    run(work())


def test_a_client_that_waits_to_be_told_to_send_its_body_sends_none_in_vain() -> None:
    service = GuardedService(is_full=True)

    async def work() -> None:
        async with live(service) as port, connected(port) as (reader, writer):
            writer.write(POST + b"Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
            assert (await answer_of(reader))[0] == 429

    run(work())


def test_a_client_that_leaves_while_its_picture_is_made() -> None:
    service = GuardedService(on_accepted=hold)

    async def work() -> None:
        async with live(service) as port:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                with pytest.raises(httpx.ReadTimeout):
                    await client.post("/v1/images/edits", data={"prompt": "x"}, files={"image": PICTURE}, timeout=0.3)
            await counted(service, s499=1)
            assert [ticket.state for ticket in service.accepted] == [State.CANCELLED]

    run(work())


def test_a_client_that_leaves_an_application_that_does_not_notice() -> None:
    """The application answers as if somebody were there; nobody has had that answer."""
    service, left = GuardedService(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await left.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    async def work() -> None:
        async with live(service, app) as port:  # type: ignore[arg-type]
            async with connected(port) as (_, writer):
                writer.write(GET + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.05)
            left.set()
            await counted(service, s499=1)

    run(work())


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux")
def test_a_client_that_does_not_read_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_STALLED_MS", 300)
    size = 64 << 20  # more than the kernel keeps

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(size)})

    async def work() -> None:
        async with live(GuardedService(), app) as port:  # type: ignore[arg-type]
            client = socket.create_connection(("127.0.0.1", port))
            with client:
                client.sendall(GET + b"\r\n")
                await asyncio.sleep(1.5)
                taken = 0
                with suppress(ConnectionResetError):
                    while data := client.recv(1 << 20):
                        taken += len(data)
                assert 0 < taken < size

    run(work())


def test_requests_that_were_sent_at_once_by_a_client_that_leaves() -> None:
    """The first is answered into the void, as nothing is read meanwhile; the others were never begun."""
    service, left = GuardedService(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await left.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    async def work() -> None:
        async with live(service, app) as port:  # type: ignore[arg-type]
            async with connected(port) as (_, writer):
                writer.write(3 * (GET + b"\r\n"))
                await writer.drain()
                await asyncio.sleep(0.05)
                lingers = struct.pack("ii", 1, 0)  # closed without a good-bye
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingers)
            await asyncio.sleep(0.05)
            left.set()
            await counted(service, s200=1, s499=2)

    run(work())


def test_the_sum_over_outcomes_is_the_requests_that_were_sent() -> None:
    """Good, refused, slow, broken and vanishing clients together, in no order."""
    service = GuardedService(ServeOptions(header_seconds=0.3, body_idle_seconds=0.3, max_body_mib=1))
    each = 8

    async def work() -> None:
        async with live(service) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

            async def good() -> None:
                files = {"image": PICTURE}
                assert (await client.post("/v1/images/edits", data={"prompt": "x"}, files=files)).status_code == 200

            async def wrong() -> None:
                files = {"image": PICTURE}
                assert (await client.post("/v1/images/edits", data={"promt": "x"}, files=files)).status_code == 400

            async def large() -> None:
                assert (await client.post("/v1/images/edits", content=b"x" * (1 << 21))).status_code == 413

            async def raw(sent: bytes, status: int) -> None:
                async with connected(port) as (reader, writer):
                    writer.write(sent)
                    await writer.drain()
                    assert not status or (await answer_of(reader))[0] == status

            half = POST + b"Content-Length: 100\r\n\r\nhalf"
            jobs = [
                *(make() for make in (good, wrong, large) for _ in range(each)),
                *(raw(half, 408) for _ in range(each)),
                *(raw(GET, 408) for _ in range(each)),
                *(raw(b"\x00\x01\x02\r\n\r\n", 400) for _ in range(each)),
                *(raw(half, 0) for _ in range(each)),  # closes at once
            ]
            await asyncio.gather(*jobs)
            await counted(service, s200=each, s400=2 * each, s413=each, s408=2 * each, s499=each)

    run(work())


def test_a_stream_that_its_client_leaves() -> None:
    """A job's events, of which the client has had some; the job goes on."""
    service = GuardedService(on_accepted=hold)

    async def work() -> None:
        async with live(service) as port:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                made = await client.post("/v1/jobs", data={"task": "edit", "prompt": "x"}, files={"image": PICTURE})
                assert made.status_code < 300, made.text
                async with client.stream("GET", made.json()["links"]["events"]) as events:
                    assert events.status_code == 200
                    async for line in events.aiter_lines():
                        if line.startswith("event: queued"):
                            break
            await counted(service, **{f"s{made.status_code}": 1, "s499": 1})
            (ticket,) = service.accepted
            assert ticket.state == State.QUEUED
            end(ticket, State.CANCELLED)

    run(work())
