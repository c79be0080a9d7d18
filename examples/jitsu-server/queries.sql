-- How many users are active, month by month and tool by tool?
SELECT
    toStartOfMonth(_timestamp) AS month,
    tool_name AS tool,
    uniqExact(user_id) AS users
FROM usage_events FINAL
GROUP BY month, tool
ORDER BY month, tool;

-- Which actions are used most, by how many users, and how often do they fail?
SELECT
    tool_name AS tool,
    action,
    count() AS times,
    uniqExact(user_id) AS users,
    countIf(error IS NOT NULL) AS failed
FROM usage_events FINAL
GROUP BY tool, action
ORDER BY times DESC, action;

-- In which environments: operating system, Python and version of the tool?
SELECT
    tool_name AS tool,
    tool_version AS version,
    os_name AS os,
    os_version,
    concat(toString(python_version_major), '.', toString(python_version_minor)) AS python,
    uniqExact(user_id) AS users
FROM usage_events FINAL
GROUP BY tool, version, os, os_version, python
ORDER BY users DESC, tool, version, os, os_version, python;
