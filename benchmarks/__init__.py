"""What usage telemetry costs, beside what else a tool might use. `python -m benchmarks --help`."""
