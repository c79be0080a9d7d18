"""One request, and what its answer means, against servers that misbehave for real."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import misbehaving as m
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.jitsu.client import (
    MAX_RETRY_AFTER_S,
    USER_AGENT,
    JitsuClient,
    Outcome,
    classify,
    encode_batch,
    parse_retry_after,
    request_url,
)

NOW = 1_700_000_000.0
BODY = b'{"eventn_ctx_event_id":"one","action":"a"}'

# -- pure functions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.SENT),
        (204, Outcome.SENT),
        (400, Outcome.SPLIT),
        (413, Outcome.SPLIT),
        (402, Outcome.GIVE_UP),
        (401, Outcome.REST),
        (403, Outcome.REST),
        (404, Outcome.REST),
        (407, Outcome.RETRY),
        (408, Outcome.RETRY),
        (429, Outcome.RETRY),
        (500, Outcome.RETRY),
        (503, Outcome.RETRY),
        (302, Outcome.RETRY),
    ],
)
def test_each_status_has_its_meaning(status: int, outcome: Outcome) -> None:
    assert classify(status, {}, NOW).outcome is outcome


@given(st.integers(min_value=100, max_value=999), st.text(max_size=30))
def test_any_answer_has_a_meaning(status: int, retry_after: str) -> None:
    answer = classify(status, {"retry-after": retry_after}, NOW)
    assert (answer.outcome is Outcome.SENT) == (200 <= status < 300)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 7 ", 7.0),
        ("999999999999", MAX_RETRY_AFTER_S),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tue, 14 Nov 2023 22:14:20 -0000", 60.0),
        ("Tue, 14 Nov 2000 22:14:20 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("²", None),
        ("9" * 400, MAX_RETRY_AFTER_S),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, NOW) == seconds


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ [\d:]+ \S+"))
def test_any_retry_after_is_within_an_hour(header: str) -> None:
    seconds = parse_retry_after(header, NOW)
    assert seconds is None or 0.0 <= seconds <= MAX_RETRY_AFTER_S


@given(st.lists(st.tuples(st.sampled_from(["token", "ip_policy", "a", "ü"]), st.text(max_size=5))))
def test_a_url_has_the_policy_once_and_never_the_token(query: list[tuple[str, str]]) -> None:
    from urllib.parse import urlencode

    found = parse_qs(
        urlsplit(request_url(f"https://host/path?{urlencode(query)}#x")).query,
        keep_blank_values=True,
    )
    assert found["ip_policy"] == ["strict"]
    assert "token" not in found
    assert set(found) <= {"ip_policy", "a", "ü"}


def test_a_lone_event_is_an_object_and_several_are_an_array() -> None:
    assert encode_batch([b"{}"]) == b"{}"
    assert encode_batch([b"{}", b"{}"]) == b"[{},{}]"
    assert encode_batch([b"{}\n{}", b"{}"]) == b"[{},{},{}]"


# -- requests --------------------------------------------------------------------------------------

Post = Callable[..., Any]


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Post:
    def make(endpoint: str, timeout_s: float = 5.0) -> JitsuClient:
        one = JitsuClient(endpoint, "the-token", timeout_s)
        request.addfinalizer(one.close)
        return one

    return make


def test_the_request_is_the_documented_one(start: Any, client: Any) -> None:
    endpoint = start()
    assert client(endpoint.url).post([BODY]).outcome is Outcome.SENT
    (request,) = endpoint.requests
    assert (request.method, request.target) == ("POST", f"{m.PATH}?ip_policy=strict")
    assert sorted(name for name, _ in request.headers) == [
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "host",
        "user-agent",
        "x-auth-token",
    ]
    assert request.header("user-agent") == USER_AGENT
    assert request.header("x-auth-token") == "the-token"
    assert request.header("accept-encoding") == "identity"


@pytest.mark.parametrize("behave", [m.healthy, m.chunked], ids=["length", "chunked"])
def test_one_connection_serves_all_requests(start: Any, client: Any, behave: Any) -> None:
    endpoint = start(behave)
    one = client(endpoint.url)
    for _ in range(5):
        one.post([BODY])
        one.finish()
    assert (len(endpoint.requests), endpoint.connections) == (5, 1)


def test_a_netrc_and_a_url_with_a_user_add_no_authorization(
    start: Any, client: Any, own_home: Path
) -> None:
    (own_home / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    endpoint = start()
    client(endpoint.url).post([BODY])
    client(endpoint.url.replace("//", "//user:word@")).post([BODY])
    assert [request.header("authorization") for request in endpoint.requests] == [None, None]


def test_a_cookie_is_not_kept(start: Any, client: Any) -> None:
    endpoint = start(m.status(200, "Set-Cookie: mark=me; Path=/"))
    one = client(endpoint.url)
    one.post([BODY])
    one.post([BODY])
    assert [request.header("cookie") for request in endpoint.requests] == [None, None]


def test_the_token_follows_no_redirect_to_another_host(start: Any, client: Any) -> None:
    other = start()
    for code in (301, 302, 303, 307, 308):
        endpoint = start(m.redirect(other.url.replace("127.0.0.1", "localhost"), code))
        assert client(endpoint.url).post([BODY]).outcome is Outcome.RETRY
    assert other.connections == 0


def test_a_redirect_to_another_port_is_another_host(start: Any, client: Any) -> None:
    other = start()
    assert client(start(m.redirect(other.url)).url).post([BODY]).outcome is Outcome.RETRY
    assert other.connections == 0


def test_a_redirect_on_the_same_host_is_followed_and_ends(start: Any, client: Any) -> None:
    @m.each
    def moved(connection: m.Connection, request: m.Request) -> None:
        if request.target.startswith("/new"):
            connection.answer(request)
        else:
            connection.answer(request, 308, b"", ("Location: /new",))

    endpoint = start(moved)
    assert client(endpoint.url).post([BODY]).outcome is Outcome.SENT
    assert endpoint.requests[-1].body == BODY
    assert client(start(m.redirect("/again")).url).post([BODY]).reason == "redirects"


@pytest.mark.parametrize(
    "behave",
    [m.hang_before_headers, m.never_reads, m.drip_headers(1.0)],
    ids=["hangs", "never reads", "drips"],
)
def test_a_request_ends_at_its_wall_clock_limit(start: Any, client: Any, behave: Any) -> None:
    began = time.monotonic()
    answer = client(start(behave).url, timeout_s=0.4).post([BODY] * 1000)
    assert answer.outcome is Outcome.RETRY
    assert time.monotonic() - began < 20.0  # to its end it takes 40 s, or for ever


@pytest.mark.parametrize(
    "behave",
    [m.hang_in_body, m.drip_body(0.05), m.reset_mid_answer],
    ids=["hangs", "drips", "resets"],
)
def test_an_accepted_event_is_sent_whatever_becomes_of_the_answer(
    start: Any, client: Any, behave: Any
) -> None:
    endpoint = start(behave)
    one = client(endpoint.url)
    assert one.post([BODY]).outcome is Outcome.SENT
    one.finish()
    endpoint.behave = m.healthy
    assert one.post([BODY]).outcome is Outcome.SENT


@pytest.mark.parametrize(
    "behave",
    [m.reset_mid_request, m.reset_before_answer, m.refuses_connections],
    ids=["mid-request", "before the answer", "refused"],
)
def test_a_broken_connection_means_later(start: Any, client: Any, behave: Any) -> None:
    endpoint = start(behave)
    one = client(endpoint.url)
    assert one.post([BODY]).outcome is Outcome.RETRY
    endpoint.behave = m.healthy
    assert one.post([BODY]).outcome is Outcome.SENT


@pytest.mark.parametrize("endpoint", ["http://no-such-host.invalid/", "http://[", "ftp://x/", ""])
def test_an_endpoint_that_cannot_be_means_later(client: Any, endpoint: str) -> None:
    assert client(endpoint).post([BODY]).outcome is Outcome.RETRY


def test_a_wrong_certificate_is_not_accepted(start: Any, client: Any, tmp_path: Path) -> None:
    import ssl

    import trustme

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    endpoint = start(tls=context)
    assert client(endpoint.url).post([BODY]).outcome is Outcome.RETRY
    assert endpoint.requests == []


# -- the host's surroundings -----------------------------------------------------------------------


def test_no_line_of_ours_and_every_line_of_the_hosts_is_logged(
    start: Any, client: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    import httpx

    endpoint = start()
    with caplog.at_level(logging.DEBUG):
        thread = threading.Thread(target=lambda: client(endpoint.url).post([BODY]))
        thread.start()
        thread.join()
        ours = [line for line in caplog.records if line.name.startswith("http")]
        httpx.post(endpoint.url, content=BODY, trust_env=False)
        theirs = [line for line in caplog.records if line.name.startswith("http")]
    assert ours == []
    assert any(line.name == "httpx" and line.levelno == logging.INFO for line in theirs)
    assert any(line.name.startswith("httpcore") for line in theirs)
    assert not [line for line in caplog.records if line.levelno > logging.INFO]


@m.each
def proxy(connection: m.Connection, request: m.Request) -> None:
    """A forward proxy that answers for everybody."""
    connection.answer(request)


def tunnel(connection: m.Connection) -> None:
    """A proxy for https: notes whom it is asked for, and refuses."""
    connection.read_request()
    connection.socket.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")


def test_proxy_variables_work_as_httpx_does_them(
    start: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, tunnels, direct = start(proxy), start(tunnel), start()
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{plain.port}")
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{tunnels.port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert client("http://far.invalid/x").post([BODY]).outcome is Outcome.SENT
    assert plain.requests[0].target == "http://far.invalid/x?ip_policy=strict"
    client("https://far.invalid/x").post([BODY])
    assert (tunnels.requests[0].method, tunnels.requests[0].target) == (
        "CONNECT",
        "far.invalid:443",
    )
    assert tunnels.requests[0].header("x-auth-token") is None
    assert client(direct.url).post([BODY]).outcome is Outcome.SENT
    assert len(direct.requests) == 1
