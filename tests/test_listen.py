"""The local Jitsu endpoint, over real sockets."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import re
import socket
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from usage_telemetry.listen import Event, JitsuEndpoint, open_lines, serve, summary_line
from usage_telemetry.listen_http import MAX_BODY_BYTES, PATH
from usage_telemetry.listen_rules import MAX_DEPTH, MAX_EVENT_BYTES, MAX_EVENTS, masked

DOCUMENTED = sorted((Path(__file__).parent / "data" / "documented-events").glob("*.json"))
SERVER_SIDE = ("api_key", "source_ip", "src")
TOKEN = "s2s.project.secret"
OK = {"status": "ok"}


@pytest.fixture
def endpoint() -> Iterator[JitsuEndpoint]:
    with JitsuEndpoint() as running:
        yield running


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    # trust_env=False: a proxy or a ~/.netrc of this machine must not take part.
    with httpx.Client(headers={"X-Auth-Token": TOKEN}, trust_env=False, timeout=10) as ours:
        yield ours


def an_event(**fields: Any) -> Event:
    return {"action": "startup", "eventn_ctx_event_id": str(uuid.uuid4()), **fields}


def an_event_of(size: int) -> bytes:
    """One event of exactly `size` bytes of JSON."""
    empty = json.dumps(an_event(pad="")).encode()
    return empty.replace(b'"pad": ""', b'"pad": "' + b"x" * (size - len(empty)) + b'"')


def raw(endpoint: JitsuEndpoint, request: bytes, *, pause_s: float = 0.0) -> bytes:
    """All bytes that the endpoint answers to the bytes of `request`, until it closes."""
    with socket.create_connection(address_of(endpoint), timeout=10) as connection:
        connection.sendall(request)
        if not pause_s:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


def address_of(endpoint: JitsuEndpoint) -> tuple[str, int]:
    url = httpx.URL(endpoint.url)
    assert url.port is not None
    return url.host, url.port


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def head(*lines: str, method: str = "POST", path: str = PATH, host: str = "localhost") -> bytes:
    fields = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"X-Auth-Token: {TOKEN}", *lines]
    return ("\r\n".join(fields) + "\r\n\r\n").encode()


def test_the_nine_documented_events_are_at_hand() -> None:
    assert len(DOCUMENTED) == 9


@pytest.mark.parametrize("path", DOCUMENTED, ids=lambda path: path.stem)
def test_a_documented_event_is_stored_as_documented(
    path: Path, endpoint: JitsuEndpoint, client: httpx.Client
) -> None:
    documented = json.loads(path.read_text(encoding="utf-8"))
    sent = {key: value for key, value in documented.items() if key not in SERVER_SIDE}
    headers = {
        "X-Auth-Token": documented["api_key"],
        "X-Forwarded-For": re.sub(r"\.1$", ".77", documented["source_ip"]),
    }
    answer = client.post(endpoint.url, params={"ip_policy": "strict"}, json=sent, headers=headers)
    assert (answer.status_code, answer.json()) == (200, OK)
    assert endpoint.events == [documented]


def test_all_documented_events_arrive_in_one_array(
    endpoint: JitsuEndpoint, client: httpx.Client
) -> None:
    documented = [json.loads(path.read_text(encoding="utf-8")) for path in DOCUMENTED]
    assert client.post(endpoint.url, json=documented).json() == OK
    names = [event["action"] for event in endpoint.events]
    assert names == [path.stem for path in DOCUMENTED]
    assert {event["api_key"] for event in endpoint.events} == {TOKEN}


# Who may ask


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org", "", "127.1", "*"])
def test_a_host_that_is_not_loopback_is_refused_by_name(host: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(host))):
        JitsuEndpoint(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_it_listens_on_loopback_and_says_where(host: str, client: httpx.Client) -> None:
    if host == "::1" and not can_bind_ipv6():
        pytest.skip("no IPv6 loopback on this machine")
    with JitsuEndpoint(host) as endpoint:
        expected = "[::1]" if host == "::1" else "127.0.0.1"
        assert re.fullmatch(rf"http://{re.escape(expected)}:\d+{PATH}", endpoint.url)
        assert client.post(endpoint.url, json=an_event()).json() == OK
        assert endpoint.events[0]["source_ip"] == expected.strip("[]")


def can_bind_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8001", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:65535"]
)
def test_a_request_for_this_machine_is_answered(
    host: str, endpoint: JitsuEndpoint, client: httpx.Client
) -> None:
    answer = client.post(endpoint.url, json=an_event(), headers={"Host": host})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "host",
    ["example.org", "localhost.example.org", "127.0.0.1.nip.io:80", "127.0.0.1@evil", "", "::1"],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_foreign_host_header_is_refused(
    method: str, host: str, endpoint: JitsuEndpoint, client: httpx.Client
) -> None:
    answer = client.request(method, endpoint.url, json=an_event(), headers={"Host": host})
    assert answer.status_code == 403
    assert endpoint.events == []


@pytest.mark.parametrize("hosts", [[], ["localhost", "example.org"], ["localhost", "localhost"]])
def test_a_request_has_one_host_header(hosts: list[str], endpoint: JitsuEndpoint) -> None:
    lines = [f"Host: {host}\r\n" for host in hosts]
    request = f"POST {PATH} HTTP/1.1\r\n{''.join(lines)}Content-Length: 0\r\n\r\n"
    assert status_of(raw(endpoint, request.encode())) == 403


@pytest.mark.parametrize("origin", ["https://example.org", "null", "http://localhost.evil"])
def test_a_foreign_web_page_is_refused(
    origin: str, endpoint: JitsuEndpoint, client: httpx.Client
) -> None:
    url = f"{endpoint.url}?token=guessed"  # what a page can send without a preflight
    answer = client.post(url, json=an_event(), headers={"Origin": origin})
    assert answer.status_code == 403
    assert endpoint.events == []


def test_a_page_of_this_machine_is_answered(endpoint: JitsuEndpoint, client: httpx.Client) -> None:
    headers = {"Origin": "http://localhost:3000"}
    assert client.post(endpoint.url, json=an_event(), headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/", "/api/v1/event", PATH + "/", "/api/v1/s2s", "//x" + PATH])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_there_is_one_path(
    method: str, path: str, endpoint: JitsuEndpoint, client: httpx.Client
) -> None:
    url = endpoint.url.removesuffix(PATH) + path
    assert client.request(method, url, json=an_event()).status_code == 404
    assert endpoint.events == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
def test_only_post_is_understood(
    method: str, endpoint: JitsuEndpoint, client: httpx.Client
) -> None:
    answer = client.request(method, endpoint.url)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "POST"
    assert client.post(endpoint.url, json=an_event()).status_code == 200, "same connection"


# The token


@pytest.mark.parametrize("place", ["header", "query"])
def test_the_token_comes_in_the_header_or_the_query(place: str, endpoint: JitsuEndpoint) -> None:
    headers, params = ({"X-Auth-Token": TOKEN}, {}) if place == "header" else ({}, {"token": TOKEN})
    answer = httpx.post(
        endpoint.url, json=an_event(), headers=headers, params=params, trust_env=False
    )
    assert answer.status_code == 200
    assert endpoint.events[0]["api_key"] == TOKEN


def test_the_token_in_the_query_wins(endpoint: JitsuEndpoint, client: httpx.Client) -> None:
    client.post(endpoint.url, params={"token": "from-query"}, json=an_event())
    assert endpoint.events[0]["api_key"] == "from-query"


def test_any_token_is_accepted_when_none_was_given(
    endpoint: JitsuEndpoint, client: httpx.Client
) -> None:
    headers = {"X-Auth-Token": "anything"}
    assert client.post(endpoint.url, json=an_event(), headers=headers).status_code == 200


@pytest.mark.parametrize("expected", [None, TOKEN])
def test_a_request_without_token_is_unauthorized(expected: str | None) -> None:
    with JitsuEndpoint(token=expected) as endpoint:
        for headers in ({}, {"X-Auth-Token": ""}):
            answer = httpx.post(endpoint.url, json=an_event(), headers=headers, trust_env=False)
            assert answer.status_code == 401
        assert endpoint.events == []


def test_an_unknown_token_is_unauthorized_and_repeated_as_classic_does(
    client: httpx.Client,
) -> None:
    with JitsuEndpoint(token="the-only-one") as endpoint:
        answer = client.post(endpoint.url, json=an_event())
        assert answer.status_code == 401
        assert TOKEN in answer.json()["message"]
        headers = {"X-Auth-Token": "the-only-one"}
        assert client.post(endpoint.url, json=an_event(), headers=headers).status_code == 200
        assert len(endpoint.events) == 1


# The body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"null",
        b'"text"',
        b"{",
        b"[1]",
        b"[null]",
        b'[{"action": "a"}, "text"]',
        b'{"action": NaN}',
        b'{"action": 1e999}',
        b'{"a": 1} {"a": 2}',
        b' {"a": 1}',
        b'\xef\xbb\xbf{"a": 1}',
        json.dumps({"a": 1}).encode("utf-16"),
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a": "' + b"\x01" + b'"}',
        json.dumps([{}] * (MAX_EVENTS + 1)).encode(),
    ],
    ids=lambda body: repr(body[:16]),
)
def test_a_malformed_body_is_a_bad_request(
    body: bytes, endpoint: JitsuEndpoint, client: httpx.Client
) -> None:
    answer = client.post(endpoint.url, content=body)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("Error parsing events body: ")
    assert endpoint.events == []
    assert client.post(endpoint.url, json=an_event()).status_code == 200


def test_an_empty_array_is_ok_and_stores_nothing(
    endpoint: JitsuEndpoint, client: httpx.Client
) -> None:
    assert client.post(endpoint.url, content=b"[]").json() == OK
    assert (endpoint.events, endpoint.received) == ([], 0)


def test_nesting_is_bounded(endpoint: JitsuEndpoint, client: httpx.Client) -> None:
    def nested(levels: int) -> str:
        return '{"a":' * levels + "1" + "}" * levels

    assert client.post(endpoint.url, content=nested(MAX_DEPTH)).status_code == 200
    assert client.post(endpoint.url, content=nested(MAX_DEPTH + 1)).status_code == 400


def test_a_gzip_body_is_not_understood(endpoint: JitsuEndpoint, client: httpx.Client) -> None:
    content = gzip.compress(json.dumps(an_event()).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    assert client.post(endpoint.url, content=content, headers=headers).status_code == 400
    assert endpoint.events == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-ndjson", "", "nonsense"])
def test_the_content_type_is_not_looked_at(
    content_type: str, endpoint: JitsuEndpoint, client: httpx.Client
) -> None:
    headers = {"Content-Type": content_type}
    content = json.dumps(an_event()).encode()
    assert client.post(endpoint.url, content=content, headers=headers).status_code == 200


@pytest.mark.parametrize(("size", "status"), [(MAX_EVENT_BYTES, 200), (MAX_EVENT_BYTES + 1, 400)])
def test_a_lone_event_has_a_size_limit(
    size: int, status: int, endpoint: JitsuEndpoint, client: httpx.Client
) -> None:
    assert client.post(endpoint.url, content=an_event_of(size)).status_code == status
    assert len(endpoint.events) == (status == 200)


@pytest.mark.parametrize(("spare", "status"), [(0, 200), (1, 400)])
def test_an_array_has_the_size_limit_times_its_length(
    spare: int, status: int, endpoint: JitsuEndpoint, client: httpx.Client
) -> None:
    body = b"[" + an_event_of(50_000) + b"," + an_event_of(50_000) + b"]"
    body = body[:-1] + b" " * (2 * MAX_EVENT_BYTES + spare - len(body)) + b"]"
    assert client.post(endpoint.url, content=body).status_code == status
    assert len(endpoint.events) == (2 if status == 200 else 0)


@pytest.mark.parametrize("small", [0, 1, 9])
def test_one_oversize_event_spoils_its_array(
    small: int, endpoint: JitsuEndpoint, client: httpx.Client
) -> None:
    events = [an_event_of(200) for _ in range(small)] + [an_event_of(MAX_EVENT_BYTES + 100)]
    body = b"[" + b",".join(events) + b"]"
    assert client.post(endpoint.url, content=body).status_code == 400
    assert (endpoint.events, endpoint.received) == ([], 0)


def test_what_is_no_unicode_is_replaced(endpoint: JitsuEndpoint, client: httpx.Client) -> None:
    body = b'{"action": "a\xffb", "error": "\\ud800", "interface": "\\ud83d\\ude00"}'
    assert client.post(endpoint.url, content=body).status_code == 200
    (event,) = endpoint.events
    assert (event["action"], event["error"]) == ("a\ufffdb", "\ufffd")
    assert event["interface"] == "\U0001f600"


# Framing, size and time


def test_a_request_without_length_is_refused(endpoint: JitsuEndpoint) -> None:
    assert status_of(raw(endpoint, head())) == 411


def test_a_chunked_request_is_refused_in_words(
    endpoint: JitsuEndpoint, client: httpx.Client
) -> None:
    answer = client.post(endpoint.url, content=iter([b"{}"]))
    assert answer.status_code == 411
    assert "chunked" in answer.json()["message"]
    assert endpoint.events == []


def test_a_request_with_both_framings_is_refused_and_closed(endpoint: JitsuEndpoint) -> None:
    request = head("Transfer-Encoding: chunked", "Content-Length: 2") + b"{}" + head()
    answer = raw(endpoint, request)
    assert status_of(answer) == 411
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("length", ["-1", "+2", "2.0", "0x2", "two", "2, 2", "9" * 30, "\u00b2"])
def test_a_length_that_is_no_number_is_a_bad_request(length: str, endpoint: JitsuEndpoint) -> None:
    assert status_of(raw(endpoint, head(f"Content-Length: {length}") + b"{}")) == 400


def test_two_different_lengths_are_a_bad_request(endpoint: JitsuEndpoint) -> None:
    request = head("Content-Length: 2", "Content-Length: 3") + b"{} "
    assert status_of(raw(endpoint, request)) == 400


def test_a_huge_body_is_refused_before_it_is_read(endpoint: JitsuEndpoint) -> None:
    began = time.monotonic()
    request = head(f"Content-Length: {MAX_BODY_BYTES + 1}")
    assert status_of(raw(endpoint, request, pause_s=1)) == 413
    assert time.monotonic() - began < 5


def test_a_client_that_sends_a_huge_body_reads_the_answer(
    endpoint: JitsuEndpoint, client: httpx.Client
) -> None:
    answer = client.post(endpoint.url, content=b"[" + b" " * MAX_BODY_BYTES)
    assert answer.status_code == 413


def test_a_body_that_ends_early_is_a_bad_request(endpoint: JitsuEndpoint) -> None:
    assert status_of(raw(endpoint, head("Content-Length: 100") + b'{"a": 1}')) == 400
    assert endpoint.events == []


@pytest.mark.parametrize(
    "start", [b"", b"PO", head()[:-2], head("Content-Length: 9") + b"{"], ids=repr
)
def test_a_stalled_client_is_let_go(start: bytes) -> None:
    with JitsuEndpoint(timeout_s=0.3) as endpoint:
        began = time.monotonic()
        answer = raw(endpoint, start, pause_s=1)
        assert 0.2 < time.monotonic() - began < 5
        assert answer == b"" or status_of(answer) == 408


def test_a_client_that_drips_is_let_go() -> None:
    with JitsuEndpoint(timeout_s=0.5) as endpoint:
        began = time.monotonic()
        with socket.create_connection(address_of(endpoint), timeout=0.05) as connection:
            connection.sendall(head("Content-Length: 1000"))
            answer = b""
            while not answer and time.monotonic() - began < 8:
                connection.sendall(b" ")
                with contextlib.suppress(TimeoutError):
                    answer = connection.recv(65536)
        assert status_of(answer) == 408
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"POST / HTTP/9.9\r\n\r\n", 400),
        (b"POST / JITSU\r\n\r\n", 400),
    ],
    ids=["many headers", "long line", "unknown version", "no HTTP"],
)
def test_what_is_no_proper_http_is_refused(
    request_bytes: bytes, status: int, endpoint: JitsuEndpoint
) -> None:
    answer = raw(endpoint, request_bytes)
    assert not answer.startswith(b"HTTP/") or status_of(answer) == status
    assert b"<html" not in answer.lower()


def test_a_client_that_asks_before_sending_is_told_to_go_on(endpoint: JitsuEndpoint) -> None:
    with socket.create_connection(address_of(endpoint), timeout=5) as connection:
        connection.sendall(head("Content-Length: 2", "Expect: 100-continue"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"{}")
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_one_connection_serves_many_requests_refused_ones_too(endpoint: JitsuEndpoint) -> None:
    connection = http.client.HTTPConnection(*address_of(endpoint), timeout=5)
    connection.connect()
    ours = connection.sock.getsockname()
    token = {"X-Auth-Token": TOKEN}
    requests = [
        ("POST", PATH, json.dumps(an_event()), token, 200),
        ("POST", PATH, "{}" * 1000, {}, 401),
        ("POST", "/elsewhere", "{}" * 1000, token, 404),
        ("POST", PATH, "nonsense", token, 400),
        ("GET", PATH, None, token, 405),
        ("POST", PATH, json.dumps(an_event()), token, 200),
    ]
    for method, path, body, headers, status in requests:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
        assert connection.sock.getsockname() == ours
    connection.close()
    assert endpoint.refused == {401: 1, 404: 1, 400: 1, 405: 1}


def test_answers_do_not_wait_for_each_other(endpoint: JitsuEndpoint) -> None:
    with socket.create_connection(address_of(endpoint)) as stalled:
        stalled.sendall(head("Content-Length: 100"))
        answer = httpx.post(
            endpoint.url, json=an_event(), headers={"X-Auth-Token": TOKEN}, trust_env=False
        )
        assert answer.status_code == 200


# What is stored


def test_the_address_is_masked_under_the_strict_policy_alone(
    endpoint: JitsuEndpoint, client: httpx.Client
) -> None:
    headers = {"X-Forwarded-For": "203.0.113.99, 10.0.0.1"}
    for query in ("?ip_policy=strict", "?ip_policy=keep", ""):
        client.post(endpoint.url + query, json=an_event(), headers=headers)
    addresses = [event["source_ip"] for event in endpoint.events]
    assert addresses == ["203.0.113.1", "203.0.113.99", "203.0.113.99"]


def test_the_connections_own_address_is_stored(
    endpoint: JitsuEndpoint, client: httpx.Client
) -> None:
    client.post(endpoint.url, json=an_event())
    assert endpoint.events[0]["source_ip"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("88.225.219.77", "88.225.219.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::1"),
        ("fe80::1234%eth0", "fe80::1"),
        ("::1", "::1"),
        ("::ffff:203.0.113.99", "203.0.113.1"),
        ("unknown", "1"),
    ],
)
def test_masking_leaves_a_network_not_a_person(address: str, expected: str) -> None:
    assert masked(address) == expected


@pytest.mark.parametrize("query", ["", "?ip_policy=strict"])
def test_a_client_that_sends_no_address_on_purpose_keeps_null(
    query: str, endpoint: JitsuEndpoint, client: httpx.Client
) -> None:
    client.post(endpoint.url + query, json=an_event(source_ip=None))
    assert endpoint.events[0]["source_ip"] is None


def test_src_is_set_unless_it_was_sent(endpoint: JitsuEndpoint, client: httpx.Client) -> None:
    client.post(endpoint.url, json=[an_event(), an_event(src="api"), an_event(src="other")])
    assert [event["src"] for event in endpoint.events] == ["api", "api", "other"]


def test_a_timestamp_is_kept_or_made(endpoint: JitsuEndpoint, client: httpx.Client) -> None:
    sent = "2023-07-07T14:08:44.332528Z"
    client.post(endpoint.url, json=[an_event(_timestamp=sent), an_event()])
    kept, made = (event["_timestamp"] for event in endpoint.events)
    assert kept == sent
    moment = datetime.strptime(made, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    assert len(made) == len(sent)
    assert abs(datetime.now(timezone.utc) - moment) < timedelta(minutes=1)


def test_an_event_id_is_kept_or_made(endpoint: JitsuEndpoint, client: httpx.Client) -> None:
    events = [{}, {"eventn_ctx_event_id": ""}, {"eventn_ctx_event_id": None}]
    client.post(endpoint.url, json=[*events, {"eventn_ctx_event_id": "kept"}])
    *made, kept = (event["eventn_ctx_event_id"] for event in endpoint.events)
    assert kept == "kept"
    assert all(uuid.UUID(event_id).version == 4 for event_id in made)
    assert len(set(made)) == 3


def test_an_api_key_that_was_sent_gives_way_to_the_token(
    endpoint: JitsuEndpoint, client: httpx.Client
) -> None:
    client.post(endpoint.url, json=an_event(api_key="another"))
    assert endpoint.events[0]["api_key"] == TOKEN


def test_repeats_are_counted_and_kept_once(endpoint: JitsuEndpoint, client: httpx.Client) -> None:
    first, second = an_event(), an_event()
    for body in (first, [first, second], [second, second]):
        assert client.post(endpoint.url, json=body).json() == OK
    assert (endpoint.received, endpoint.repeats) == (5, 3)
    ids = [event["eventn_ctx_event_id"] for event in endpoint.events]
    assert ids == [first["eventn_ctx_event_id"], second["eventn_ctx_event_id"]]


def test_the_latest_events_are_kept_where_a_number_is_given(client: httpx.Client) -> None:
    with JitsuEndpoint(keep=2) as endpoint:
        client.post(endpoint.url, json=[an_event(extra={"n": n}) for n in range(5)])
        assert [event["extra"]["n"] for event in endpoint.events] == [3, 4]
        assert endpoint.received == 5


def test_many_threads_lose_nothing(endpoint: JitsuEndpoint) -> None:
    def send() -> None:
        with httpx.Client(headers={"X-Auth-Token": TOKEN}, trust_env=False) as ours:
            for _ in range(25):
                assert ours.post(endpoint.url, json=[an_event(), an_event()]).status_code == 200

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(endpoint.events), endpoint.received, endpoint.repeats) == (400, 400, 0)


# The object


def test_on_event_sees_each_event_once_before_it_is_acknowledged(client: httpx.Client) -> None:
    seen: list[Event] = []
    event = an_event()
    with JitsuEndpoint(on_event=seen.append) as endpoint:
        client.post(endpoint.url, json=event)
        client.post(endpoint.url, json=event)
        assert seen == endpoint.events
        assert len(seen) == 1


def test_a_failing_on_event_is_a_500_and_is_raised_at_the_end(client: httpx.Client) -> None:
    def fail(event: Event) -> None:
        raise ZeroDivisionError(event["action"])

    with pytest.raises(ZeroDivisionError), JitsuEndpoint(on_event=fail) as endpoint:  # noqa: PT012
        assert client.post(endpoint.url, json=an_event()).status_code == 500
        assert (endpoint.events, endpoint.received) == ([], 0)


def test_an_error_of_the_block_is_not_hidden_by_one_of_on_event(client: httpx.Client) -> None:
    def fail(event: Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(KeyError), JitsuEndpoint(on_event=fail) as endpoint:  # noqa: PT012
        client.post(endpoint.url, json=an_event())
        raise KeyError("the block's own")


def test_events_can_be_waited_for(endpoint: JitsuEndpoint, client: httpx.Client) -> None:
    later = threading.Timer(0.2, lambda: client.post(endpoint.url, json=an_event()))
    later.start()
    assert len(endpoint.wait_for_events(1, timeout_s=5)) == 1
    with pytest.raises(TimeoutError, match="1 of 2 events"):
        endpoint.wait_for_events(2, timeout_s=0.05)
    later.join()


def test_an_unknown_flavour_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'next'"):
        JitsuEndpoint(flavour="next")


def test_the_url_is_unknown_before_the_start() -> None:
    with pytest.raises(RuntimeError, match="not started"):
        _ = JitsuEndpoint().url


def test_after_the_block_nothing_answers_even_on_an_open_connection(client: httpx.Client) -> None:
    with JitsuEndpoint() as endpoint:
        client.post(endpoint.url, json=an_event())
        began = time.monotonic()
    assert time.monotonic() - began < 2, "an idle connection must not hold the end up"
    with pytest.raises(httpx.TransportError):
        client.post(endpoint.url, json=an_event())
    assert len(endpoint.events) == 1


def test_a_port_can_be_chosen_and_is_free_again_afterwards(client: httpx.Client) -> None:
    with JitsuEndpoint() as first:
        port = address_of(first)[1]
        with pytest.raises(OSError, match=r"(?i)address"), JitsuEndpoint(port=port):
            pass
        client.post(first.url, json=an_event())
    with JitsuEndpoint(port=port) as again:
        assert address_of(again)[1] == port


def test_nothing_is_printed(
    endpoint: JitsuEndpoint, client: httpx.Client, capfd: pytest.CaptureFixture[str]
) -> None:
    client.post(endpoint.url, json=an_event())
    client.post(endpoint.url, content=b"nonsense")
    client.get(endpoint.url)
    raw(endpoint, b"\x16\x03\x01 not HTTP at all\r\n\r\n")
    with socket.create_connection(address_of(endpoint)) as rude:
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        rude.sendall(head("Content-Length: 100"))
    endpoint.close()
    assert capfd.readouterr() == ("", "")


SHARED: dict[str, Any] = {}


@pytest.fixture(scope="module", autouse=True)
def _shared_endpoint() -> Iterator[None]:
    with (
        JitsuEndpoint(keep=100) as endpoint,
        httpx.Client(headers={"X-Auth-Token": TOKEN}, trust_env=False, timeout=10) as client,
    ):
        SHARED.update(endpoint=endpoint, client=client)
        yield
        assert endpoint.failure is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
bodies = (
    st.binary(max_size=300)
    | st.builds(bytes.__add__, st.sampled_from([b"{", b"[", b"[{", b'{"a":']), st.binary())
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.lists(st.dictionaries(st.text(), json_values, max_size=3), max_size=4).map(
        lambda e: json.dumps(e).encode()
    )
    | st.dictionaries(
        st.sampled_from(["action", "extra", "eventn_ctx_event_id", "_timestamp", "error"]),
        json_values,
    ).map(lambda event: json.dumps(event).encode())
)


@given(body=bodies)
@example(body=b"{}")
@example(body=b'{"action": ' + b"1" * 5000 + b"}")
@example(body=b'{"\\ud800": "\\udfff", "eventn_ctx_event_id": {"a": [1]}}')
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_body_is_a_server_error_nor_ends_the_server(body: bytes) -> None:
    endpoint, client = SHARED["endpoint"], SHARED["client"]
    answer = client.post(endpoint.url, content=body)
    assert answer.status_code in (200, 400)
    for event in endpoint.events[-3:]:
        line = summary_line(event)
        assert line.isprintable()
        json.dumps(event, allow_nan=False, ensure_ascii=False).encode()
    assert client.post(endpoint.url, json=an_event()).json() == OK


@given(request_bytes=st.binary(max_size=200) | st.binary().map(lambda tail: head()[:-2] + tail))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_bytes_at_all_end_the_server(request_bytes: bytes) -> None:
    endpoint, client = SHARED["endpoint"], SHARED["client"]
    answer = raw(endpoint, request_bytes)
    assert not answer.startswith(b"HTTP/") or status_of(answer) < 500
    assert client.post(endpoint.url, json=an_event()).json() == OK


# serve


@pytest.fixture
def serving() -> Iterator[Callable[..., tuple[JitsuEndpoint, list[Event], Callable[[], None]]]]:
    """Runs `serve` in a thread; gives the endpoint, what is shown, and a way to end it."""
    enders: list[Callable[[], None]] = []

    def begin(**options: Any) -> tuple[JitsuEndpoint, list[Event], Callable[[], None]]:
        shown: list[Event] = []
        listening, stop = threading.Event(), threading.Event()
        found: list[JitsuEndpoint] = []
        errors: list[BaseException] = []

        def ready(endpoint: JitsuEndpoint) -> None:
            found.append(endpoint)
            listening.set()

        def run() -> None:
            try:
                serve(**{"show": shown.append, "ready": ready, "stop": stop, **options})
            except BaseException as error:
                errors.append(error)
                listening.set()

        thread = threading.Thread(target=run)
        thread.start()

        def end() -> None:
            stop.set()
            thread.join(10)
            assert not thread.is_alive()
            if errors:
                raise errors.pop()

        enders.append(end)
        assert listening.wait(5)
        if errors:
            raise errors.pop()
        return found[0], shown, end

    yield begin
    for end in enders:
        end()


def test_serve_shows_each_event_and_appends_it_to_the_file(
    serving: Any, client: httpx.Client, tmp_path: Path
) -> None:
    path = tmp_path / "events.jsonl"
    endpoint, shown, end = serving(jsonl=path)
    first, second = an_event(extra={"text": "caf\u00e9\n"}), an_event()
    client.post(endpoint.url, json=[first, second])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == endpoint.events, "in the file once acknowledged"
    client.post(endpoint.url, json=first)
    end()
    assert shown == endpoint.events
    assert path.read_text(encoding="utf-8").splitlines() == lines, "a repeat is not written"


def test_serve_appends_to_what_is_there(serving: Any, client: httpx.Client, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"action": "earlier"}\n', encoding="utf-8")
    endpoint, _, end = serving(jsonl=path)
    client.post(endpoint.url, json=an_event())
    end()
    actions = [json.loads(line)["action"] for line in path.read_text().splitlines()]
    assert actions == ["earlier", "startup"]


def test_serve_shows_in_the_calling_thread(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown_in: list[threading.Thread] = []

    def show(event: Event) -> None:
        shown_in.append(threading.current_thread())
        raise KeyboardInterrupt  # as if the user pressed Ctrl-C now

    serve(
        show=show,
        ready=lambda endpoint: (client.post(endpoint.url, json=an_event()), None)[1],
    )
    assert shown_in == [threading.current_thread()]


def test_serve_takes_the_one_token_it_is_given(serving: Any, client: httpx.Client) -> None:
    endpoint, _, _ = serving(token="another")
    assert client.post(endpoint.url, json=an_event()).status_code == 401


def test_serve_refuses_a_host_that_is_not_loopback() -> None:
    with pytest.raises(ValueError, match=r"0\.0\.0\.0"):
        serve("0.0.0.0", show=print)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_an_event_that_cannot_be_written_is_not_acknowledged_and_ends_serve(
    serving: Any, client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Path("/dev/full")
    monkeypatch.setattr("usage_telemetry.listen.open_lines", lambda path: full.open("a"))
    endpoint, shown, end = serving(jsonl=tmp_path / "events.jsonl")
    assert client.post(endpoint.url, json=an_event()).status_code == 500
    with pytest.raises(OSError, match="No space left"):
        end()
    assert shown == []


# The file

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions and links")


@posix
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_file_is_created_for_its_owner_alone(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        open_lines(tmp_path / "events.jsonl").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "events.jsonl").stat().st_mode) == 0o600


@posix
@pytest.mark.parametrize("target_exists", [True, False])
def test_a_symbolic_link_in_the_files_place_is_refused(
    target_exists: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, link = tmp_path / "target", tmp_path / "events.jsonl"
    if target_exists:
        target.write_text("untouched")
    link.symlink_to(target)
    with pytest.raises(OSError, match="symbolic link"):
        serve(jsonl=link, show=print)
    monkeypatch.setattr(Path, "is_symlink", lambda self: False)  # a link made in between
    with pytest.raises(OSError, match=r"(?i)symbolic link"):
        open_lines(link)
    assert target.exists() == target_exists
    assert not target_exists or target.read_text() == "untouched"


@posix
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        with pytest.raises(OSError, match=r".+"):
            open_lines(path)


@posix
def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.jsonl"
    path.touch()
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(PermissionError, match="another user"):
        open_lines(path)


# One line for people


def test_a_summary_has_time_action_outcome_extras_and_tool() -> None:
    (path,) = (path for path in DOCUMENTED if path.stem == "list_projects")
    line = summary_line(json.loads(path.read_text(encoding="utf-8")))
    assert line.split() == [
        "14:08:44",
        "list_projects",
        "ok",
        "project_count=1",
        "evidently",
        "0.3.3",
    ]


def test_a_summary_shortens_lists_and_leaves_out_empty_ones() -> None:
    (path,) = (path for path in DOCUMENTED if path.stem == "get_snapshot_data")
    line = summary_line(json.loads(path.read_text(encoding="utf-8")))
    assert "metrics=[DatasetDriftMetric,DatasetMissingValuesMetric +4]" in line
    assert "snapshot_type=report" in line
    assert "test_presets" not in line


def test_a_summary_names_the_error_and_shows_zero_and_false() -> None:
    line = summary_line(an_event(error="ValueError", extra={"count": 0, "flag": False}))
    assert "  ValueError  count=0 flag=false  " in line


def test_a_summary_never_shows_the_token_or_the_user() -> None:
    for path in DOCUMENTED:
        event = json.loads(path.read_text(encoding="utf-8"))
        line = summary_line(event)
        assert event["api_key"] not in line
        assert event["user_id"] not in line


@given(
    event=st.dictionaries(
        st.sampled_from(["action", "error", "extra", "_timestamp", "tool_name", "tool_version"]),
        json_values | st.dictionaries(st.text(), json_values),
    )
)
@example(event={"action": "\x1b]0;owned\x07", "extra": {"\x1b[2J": ["\u202e"]}})
def test_any_event_makes_one_short_printable_line(event: Event) -> None:
    line = summary_line(event)
    assert line.isprintable()
    assert len(line) < 400
