"""Instrumenting and its undoing: nothing is left behind, order does not matter, nothing breaks."""

from __future__ import annotations

from hosts import run_python

from usage_telemetry.listen import JitsuEndpoint

PRELUDE = """
import sys
from usage_telemetry.instrumentation.evidently import EvidentlyInstrumentor
from usage_telemetry.instrumentation.iterative import IterativeTelemetryInstrumentor
from usage_telemetry.instrumentation.asgi import UsageMiddleware
"""


def passes(script: str, environment: dict[str, str]) -> None:
    result = run_python(PRELUDE + script, environment, timeout_s=120)
    assert result.returncode == 0, result.stderr


def test_instrument_and_uninstrument_undo_each_other(environment: dict[str, str]) -> None:
    passes(
        """
import evidently.ui.service.app as app
import evidently.ui.service.managers.projects as projects
import iterative_telemetry
def functions():
    return (app.create_app, projects.ProjectManager.__dict__["load_snapshot"],
            iterative_telemetry.IterativeTelemetryLogger.__dict__["send"])
before = functions()
for instrumentor in (EvidentlyInstrumentor(), IterativeTelemetryInstrumentor()):
    instrumentor.instrument()
    instrumentor.instrument()
assert all(now is not then for now, then in zip(functions(), before))
EvidentlyInstrumentor().uninstrument()
IterativeTelemetryInstrumentor().uninstrument()
assert all(now is then for now, then in zip(functions(), before))
EvidentlyInstrumentor().uninstrument()
EvidentlyInstrumentor().instrument()
assert app.create_app is not before[0]
""",
        environment,
    )


def test_order_of_imports_does_not_matter_and_instrumenting_imports_nothing(
    environment: dict[str, str],
) -> None:
    passes(
        """
EvidentlyInstrumentor().instrument()
IterativeTelemetryInstrumentor().instrument()
assert not [name for name in sys.modules if name.split(".")[0] in ("evidently", "litestar")]
from evidently.ui.service.app import create_app, get_config
app = create_app(get_config(workspace=sys.argv[0] + "-ws"))
assert isinstance(app, UsageMiddleware)
assert app.debug is False, "attributes of Evidently's app shine through"
""",
        environment,
    )


def test_a_release_that_moved_everything_starts_unharmed_and_its_events_are_recorded(
    environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    passes(
        """
import logging, types
lines = []
class Keep(logging.Handler):
    def emit(self, record):
        lines.append((record.levelname, record.getMessage()))
logging.getLogger("usage_telemetry").addHandler(Keep())
logging.getLogger("usage_telemetry").setLevel(logging.DEBUG)
EvidentlyInstrumentor().instrument()

import importlib.abc, importlib.machinery
class Moved(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name == "evidently.ui.service.app":
            return importlib.machinery.ModuleSpec(name, self)
    def create_module(self, spec):
        return types.ModuleType(spec.name)
    def exec_module(self, module):
        module.make_application = lambda config: "app"
sys.meta_path.insert(1, Moved())  # behind the finder of the import hooks
import evidently.ui.service.app as app
assert app.make_application(None) == "app"
assert [level for level, text in lines if "create_app" in text] == ["DEBUG"], lines

from evidently.ui.service.components.telemetry import TelemetryComponent
TelemetryComponent().get_event_logger()("list_projects", project_count=4)
from usage_telemetry.instrumentation import evidently_ui
assert evidently_ui._telemetry.flush(30.0)
""",
        environment,
    )

    [event] = endpoint.events
    assert (event["action"], event["extra"]) == ("list_projects", {"project_count": 4})


def test_an_app_that_is_not_as_we_know_it_is_left_alone(environment: dict[str, str]) -> None:
    passes(
        """
EvidentlyInstrumentor().instrument()
import evidently.ui.service.app as app
from evidently.ui.service.config import ConfigContext
class Config:
    def context(self):
        import contextlib
        return contextlib.nullcontext(Context())
class Context:
    def apply(self, builder): pass
    def finalize(self, app): pass
app.AppBuilder = lambda context: type("Builder", (), {"build": lambda self: "the app"})()
assert app.create_app(Config()) == "the app"
""",
        environment,
    )
