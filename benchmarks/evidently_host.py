"""Evidently's own UI as a process: bare, with its own telemetry, or with ours.

Its own telemetry is pointed to an endpoint on 127.0.0.1 in every mode, before it can be made.
"""

from __future__ import annotations

import sys
from typing import Any


def serve(mode: str, workspace: str, port: int, endpoint: str) -> None:
    import iterative_telemetry

    made = iterative_telemetry.IterativeTelemetryLogger.__init__

    def made_for_loopback(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **{**kwargs, "url": endpoint})

    iterative_telemetry.IterativeTelemetryLogger.__init__ = made_for_loopback
    if mode == "ours":
        from usage_telemetry.instrumentation.evidently import EvidentlyInstrumentor

        EvidentlyInstrumentor().instrument()
    from evidently.ui.service.app import run_local

    run_local("127.0.0.1", port, workspace)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
