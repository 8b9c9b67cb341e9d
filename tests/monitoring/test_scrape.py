"""One look at the metrics of all nodes."""

from __future__ import annotations

import socket
import threading

import pytest

from fsspill.errors import ConfigError
from fsspill.monitoring.scrape import metrics_url, scrape
from tests.monitoring.samples import line, serve


def test_all_endpoints_are_asked() -> None:
    """The samples of each are known by its host and port."""
    with serve(line("retries_total", 1)) as first, serve(line("retries_total", 2)) as second:
        found = scrape([metrics_url(first), metrics_url(second)])
    assert {place: samples[0].value for place, samples in found.samples.items()} == {
        first: 1.0,
        second: 2.0,
    }
    assert found.failures == {}


def test_an_endpoint_that_does_not_answer_is_named_with_the_reason() -> None:
    """The others are read all the same."""
    with socket.socket() as unused, serve("") as place:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        refused = f"127.0.0.1:{unused.getsockname()[1]}"
        found = scrape([f"http://{refused}/metrics", metrics_url(place)])
    assert found.failures == {refused: "Connection refused"}
    assert found.samples == {place: []}


def test_another_page_is_no_answer() -> None:
    """Such as a server that has no metrics."""
    with serve("") as place:
        assert scrape([f"http://{place}/other"]).failures == {place: "Not Found"}


def test_a_silent_endpoint_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for."""
    monkeypatch.setattr("fsspill.monitoring.scrape._TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        assert scrape([metrics_url(place)]).failures == {place: "timed out"}


def test_what_is_no_http_is_no_answer() -> None:
    """Whatever listens there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}"

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 ready\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert scrape([metrics_url(place)]).failures == {place: "220 ready\r\n"}
        thread.join()


def test_no_proxy_is_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes are inside of the cluster."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with serve("") as place:
        assert scrape([metrics_url(place)]).samples == {place: []}


@pytest.mark.parametrize(
    ("place", "url"),
    [
        ("10.0.0.1:8080", "http://10.0.0.1:8080/metrics"),
        ("[::1]:8080", "http://[::1]:8080/metrics"),
        ("http://n:1", "http://n:1/metrics"),
        ("http://n:1/", "http://n:1/metrics"),
        ("https://n/some/path", "https://n/some/path"),
    ],
)
def test_the_url_of_an_endpoint(place: str, url: str) -> None:
    """A path is only added where there is none."""
    assert metrics_url(place) == url


@pytest.mark.parametrize("place", ["", "s3://bucket", "http://", "file:///x"])
def test_what_is_no_endpoint_is_refused(place: str) -> None:
    """The message says what was expected."""
    with pytest.raises(ConfigError, match="expected the URL of an endpoint for Prometheus"):
        metrics_url(place)
