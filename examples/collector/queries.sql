-- How many users are active, month by month and tool by tool?
SELECT
    toStartOfMonth(Timestamp) AS month,
    ServiceName AS tool,
    uniqExact(ResourceAttributes['enduser.pseudo.id']) AS users
FROM otel_traces
WHERE ScopeName = 'usage_telemetry'
GROUP BY month, tool
ORDER BY month, tool;

-- Which actions are used most, by how many users, how fast are they, how often do they fail?
SELECT
    ServiceName AS tool,
    SpanName AS action,
    uniqExact(TraceId) AS times,
    uniqExact(ResourceAttributes['enduser.pseudo.id']) AS users,
    round(quantile(0.5)(Duration) / 1e6, 1) AS median_ms,
    countIf(SpanAttributes['error.type'] != '') AS failed
FROM otel_traces
WHERE ScopeName = 'usage_telemetry'
GROUP BY tool, action
ORDER BY times DESC, action;

-- In which environments: operating system, Python and version of the tool?
SELECT
    ServiceName AS tool,
    ResourceAttributes['service.version'] AS version,
    ResourceAttributes['os.type'] AS os,
    ResourceAttributes['os.version'] AS os_version,
    extract(ResourceAttributes['process.runtime.version'], '^[0-9]+[.][0-9]+') AS python,
    uniqExact(ResourceAttributes['enduser.pseudo.id']) AS users
FROM otel_traces
WHERE ScopeName = 'usage_telemetry'
GROUP BY tool, version, os, os_version, python
ORDER BY users DESC, tool, version, os, os_version, python;
