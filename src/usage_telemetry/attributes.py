"""The span contract: every attribute name that a usage span or its resource may carry.

Names without the prefix `usage.` are those of OpenTelemetry's semantic conventions 1.44.
"""

SCOPE = "usage_telemetry"
"""Instrumentation scope of every usage span."""
SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"

ACTION = "usage.action"
INTERFACE = "usage.interface"
EXTRA_PREFIX = "usage.extra."
ERROR_TYPE = "error.type"

SERVICE_NAME = "service.name"
SERVICE_VERSION = "service.version"
OS_TYPE = "os.type"
OS_VERSION = "os.version"
RUNTIME_NAME = "process.runtime.name"
RUNTIME_VERSION = "process.runtime.version"
USER_ID = "enduser.pseudo.id"
GROUP_ID = "usage.group.id"
