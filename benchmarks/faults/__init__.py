"""What the delivery does under each fault: `python -m benchmarks.faults` prints the table."""
