"""Metric and preset of a user's own, for every release line of Evidently.

The server loads them by name, by way of PYTHONPATH and EVIDENTLY_TYPE_PREFIXES; the names must not
leave it.
"""

from importlib import import_module

import evidently

RELEASE = tuple(int(part) for part in evidently.__version__.split(".")[:3])

if RELEASE < (0, 7, 1):
    _package = "evidently.legacy" if RELEASE >= (0, 7, 0) else "evidently"
    _metric = import_module(_package + ".base_metric")
    _renderers = import_module(_package + ".renderers.base_renderer")
    _preset = import_module(_package + ".metric_preset.metric_preset")

    class ZqtelltaleResult(_metric.MetricResult):
        """What the metric below finds."""

        class Config:
            """As Evidently wants it of classes that are not its own."""

            alias_required = False

        value: int

    class ZqtelltaleMetric(_metric.Metric[ZqtelltaleResult]):
        """A metric that a user wrote."""

        class Config:
            """As above."""

            alias_required = False

        def calculate(self, data):
            """Always one."""
            return ZqtelltaleResult(value=1)

    @_renderers.default_renderer(wrap_type=ZqtelltaleMetric)
    class ZqtelltaleRenderer(_renderers.MetricRenderer):
        """Shows nothing."""

        def render_html(self, obj):
            """No widget."""
            return []

    class ZqtelltalePreset(_preset.MetricPreset):
        """A preset that a user wrote."""

        class Config:
            """As above."""

            alias_required = False

        def generate_metrics(self, *args, **kwargs):
            """The metric above."""
            return [ZqtelltaleMetric()]

else:
    from evidently.core.metric_types import SingleValueCalculation, SingleValueMetric

    class ZqtelltaleMetric(SingleValueMetric):
        """A metric that a user wrote."""

        column: str

    class ZqtelltaleCalculation(SingleValueCalculation[ZqtelltaleMetric]):
        """How it is calculated."""

        def calculate(self, context, current_data, reference_data):
            """Always one."""
            return self.result(1), None

        def display_name(self):
            """What the page shows."""
            return "zqtelltale display"
