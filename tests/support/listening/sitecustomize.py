"""Keeps, in a process under test, what it is asked to listen to; each in a file.

LOG_OF_USAGE_TELEMETRY: all records of the logger `usage_telemetry`. EVENTS_OF_THE_HOST: names of
the actions that the host itself hands to iterative-telemetry, before anybody takes them from it.
PROCESSES_STARTED: the command of each process it starts.
"""

import logging
import os
import sys

log = os.environ.get("LOG_OF_USAGE_TELEMETRY")
if log:
    logger = logging.getLogger("usage_telemetry")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(logging.FileHandler(log))

events = os.environ.get("EVENTS_OF_THE_HOST")
if events:
    import iterative_telemetry

    send_event = iterative_telemetry.IterativeTelemetryLogger.send_event

    def overhear(self, interface, action, *args, **kwargs):
        """Write the action down, and go on as ever."""
        with open(events, "a") as lines:
            lines.write(action + "\n")
        return send_event(self, interface, action, *args, **kwargs)

    iterative_telemetry.IterativeTelemetryLogger.send_event = overhear

processes = os.environ.get("PROCESSES_STARTED")
if processes:

    def note(name, arguments):
        """An audit hook: it sees every way to start a process."""
        if name in ("subprocess.Popen", "os.posix_spawn", "os.exec", "os.system"):
            with open(processes, "a") as lines:
                lines.write(repr(arguments[:2]) + "\n")

    sys.addaudithook(note)
    open(processes, "a").close()
