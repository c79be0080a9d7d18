"""USAGE_TELEMETRY_DEBUG: every event as a line of JSON on stderr, beside the real exporter."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from opentelemetry.exporter.jitsu.event import event_from_span
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult


class DebugExporter(SpanExporter):
    """Shows events to a developer who asked to see them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Print one line for each event; a closed stderr fails the export, nothing else."""
        for span in spans:
            event = event_from_span(span)
            if event is not None:
                print(f"usage event: {json.dumps(event)}", file=sys.stderr, flush=True)
        return SpanExportResult.SUCCESS
