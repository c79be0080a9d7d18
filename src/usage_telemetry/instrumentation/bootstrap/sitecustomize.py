"""Imported by Python itself at its start: `usage-telemetry run` put this folder in front."""

try:
    from usage_telemetry.instrumentation.launch import bootstrap
except ImportError:
    pass  # another interpreter, where usage-telemetry is not installed: the program runs as it is
else:
    bootstrap()
