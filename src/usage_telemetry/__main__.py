"""`python -m usage_telemetry`: the command line."""

from usage_telemetry.cli import main

if __name__ == "__main__":
    main(prog_name="python -m usage_telemetry")
