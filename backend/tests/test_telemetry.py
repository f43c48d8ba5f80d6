"""FastAPI's own OpenTelemetry sends traces and metrics if the usual variables are set."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from src.framework.web.application import Application
from tests.serving import eventually, serving, started
from tests.tasks import tasks_path, unknown_path


class Collector(ThreadingHTTPServer):
    """Takes the data of OTLP exporters: https://opentelemetry.io/docs/specs/otlp/#otlphttp."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.received: dict[str, list[bytes]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def spans(self) -> set[tuple[str, int]]:
        """Return name and HTTP status of each span."""
        return {
            (span.name, attribute.value.int_value)
            for body in self.received.get("/v1/traces", [])
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
            for attribute in span.attributes
            if attribute.key == "http.response.status_code"
        }


class Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.setdefault(self.path, []).append(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def collecting() -> Iterator[Collector]:
    with Collector() as collector:
        thread = Thread(target=collector.serve_forever)
        thread.start()
        yield collector
        collector.shutdown()
        thread.join()


def test_otel_variables_send_traces_of_requests_by_route(tmp_path: Path, own_database: str) -> None:
    with collecting() as collector:
        settings = {
            "DATABASE_URL": own_database,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }
        with serving(tmp_path / "log", **settings) as server, server.client() as client:
            made = client.post(tasks_path("ada"), json={"title": "Buy milk"})
            missing = client.get(unknown_path("ada"))
            server.stop()

        assert (made.status_code, missing.status_code) == (201, 404)
        assert {
            ("POST /api/{user_id}/tasks", 201),
            ("GET /api/{user_id}/tasks/{task_id}", 404),
        } <= collector.spans()
        assert eventually(lambda: "/v1/metrics" in collector.received)


def test_telemetry_that_nothing_can_export_stops_the_start_with_a_sentence(
    tmp_path: Path, own_database: str
) -> None:
    missing = "import sys; sys.modules['opentelemetry.exporter'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(missing)
    settings = {
        "DATABASE_URL": own_database,
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "PYTHONPATH": str(tmp_path),
    }

    with started(tmp_path / "log", **settings) as server:
        assert server.process.wait(timeout=30) == 3

    assert (
        "The service cannot start. OTEL_EXPORTER_OTLP_… is set, which needs two more packages: "
        "pip install 'fastapi[opentelemetry]'.\n"
    ) in server.log
    assert "Traceback" not in server.log


@pytest.mark.parametrize("is_on", [False, True])
def test_a_variable_turns_all_of_opentelemetry_on(
    monkeypatch: pytest.MonkeyPatch, *, is_on: bool
) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    if is_on:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")

    config = vars(Application())["_telemetry"]

    assert {config[part] for part in ("tracing", "metrics", "logs", "auto_configure")} == {is_on}
