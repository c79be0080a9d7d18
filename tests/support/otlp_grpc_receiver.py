"""A real OTLP/gRPC receiver on loopback."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from otlp_messages import decode
from otlp_receiver import HOST, Fault, OtlpReceiver, ReceivedRequest


class OtlpGrpcReceiver(OtlpReceiver):
    """OTLP/gRPC: `opentelemetry.proto.collector.trace.v1.TraceService/Export`."""

    protocol = "grpc"

    def _start(self, port: int) -> int:
        # One thread a call: a stalled call holds its thread until the receiver closes.
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=8, thread_name_prefix="otlp-grpc-receiver"),
            options=[("grpc.so_reuseport", 0)],  # a taken port is an error, not shared
        )
        add_TraceServiceServicer_to_server(_TraceService(self), self._server)  # type: ignore[no-untyped-call]
        address = f"{HOST}:{port}"
        if self.tls:
            pair = (
                self.tls.server_key_file.read_bytes(),
                self.tls.server_certificate_file.read_bytes(),
            )
            credentials = grpc.ssl_server_credentials(
                [pair],
                root_certificates=(
                    self.tls.ca_file.read_bytes() if self.require_client_certificate else None
                ),
                require_client_auth=self.require_client_certificate,
            )
            bound = self._server.add_secure_port(address, credentials)
        else:
            bound = self._server.add_insecure_port(address)
        self._server.start()
        return int(bound)

    def _stop(self) -> None:
        self._server.stop(grace=0).wait()

    def _endless_answer(self) -> Iterable[bytes]:
        settings = bytes.fromhex("000000 04 00 00000000")  # an empty SETTINGS frame, RFC 9113 6.5
        ping = bytes.fromhex("000008 06 00 00000000 0000000000000000")  # a PING frame, 6.7
        yield settings
        while True:
            yield from (ping[i : i + 1] for i in range(len(ping)))

    def _answer(
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        self._count_attempt()
        if self.fault is Fault.UNAVAILABLE:
            context.abort(grpc.StatusCode.UNAVAILABLE, "this receiver is told to be unavailable")
        metadata: Iterable[tuple[str, Any]] = context.invocation_metadata()
        self._collect(
            ReceivedRequest(
                headers={key.lower(): _text(value) for key, value in metadata},
                path="/opentelemetry.proto.collector.trace.v1.TraceService/Export",
                spans=decode(request),
                wire_bytes=None,
            )
        )
        if self.fault is Fault.STALL:
            self._closing.wait()
        return ExportTraceServiceResponse()


class _TraceService(TraceServiceServicer):
    def __init__(self, receiver: OtlpGrpcReceiver) -> None:
        self._receiver = receiver

    def Export(
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        return self._receiver._answer(request, context)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.hex()  # bytes: the keys that end in -bin
