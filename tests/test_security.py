"""What no part of the source may do, whoever edits it next."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
SOURCES = sorted(
    path for folder in ("src", "exporters/jitsu/src") for path in (PROJECT / folder).rglob("*.py")
)

FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "subprocess", "ctypes"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "system", "popen", "_create_unverified_context"}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name):
                yield function.id, node
            elif isinstance(function, ast.Attribute):
                owner = function.value.id if isinstance(function.value, ast.Name) else ""
                if owner != "re":  # re.compile
                    yield function.attr, node


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_no_pickle_no_eval_no_shell_no_unverified_tls(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))

    assert not set(imported(tree)) & FORBIDDEN_MODULES
    for name, call in calls(tree):
        assert name not in FORBIDDEN_CALLS, f"{name} in line {call.lineno}"
        for keyword in call.keywords:
            value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            assert not (keyword.arg == "verify" and value is False)
            assert not (keyword.arg == "shell" and value is True)


def test_only_these_files_touch_the_environment() -> None:
    """So that no setting can switch off what another place promises."""
    readers = {
        path.name
        for path in SOURCES
        if any(
            isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        )
    }

    # The launcher sets PYTHONPATH for the program, the pytest plugin PYTEST_VERSION.
    assert readers <= {
        "settings.py",
        "otlp_settings.py",
        "configuration.py",
        "launch.py",
        "testing.py",
    }
