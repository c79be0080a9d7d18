"""Real OTLP receivers on loopback, gRPC and HTTP, that collect what a collector would have read."""

from __future__ import annotations

from collections.abc import Sequence

from otlp_grpc_receiver import OtlpGrpcReceiver
from otlp_http_receiver import OtlpHttpReceiver
from otlp_receiver import Fault, OtlpReceiver, ReceivedRequest

__all__ = [
    "RECEIVERS",
    "Fault",
    "OtlpGrpcReceiver",
    "OtlpHttpReceiver",
    "OtlpReceiver",
    "ReceivedRequest",
]

RECEIVERS: Sequence[type[OtlpReceiver]] = (OtlpGrpcReceiver, OtlpHttpReceiver)
