"""The import rules of the four packages, read from the syntax trees."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("stores", "extract", "temporal", "pipeline")
FORBIDDEN = {
    "stores": {"extract", "temporal", "pipeline", "torch", "torchvision", "torchcodec", "click", "rich"},
    "extract": {"temporal", "pipeline", "click", "rich"},
    "temporal": {"extract", "pipeline", "click", "rich"},
    "pipeline": set(),
}
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path) -> Iterator[str]:
    """Yields the full name of everything that a module imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_layer_may(path):
    package = path.relative_to(ROOT).parts[0]
    tops = {name.split(".")[0] for name in imported(path)}
    assert not tops & FORBIDDEN[package]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_pipeline_schedules_and_only_stores_arrays_builds_dask_arrays(path):
    relative = path.relative_to(ROOT)
    dask = {name for name in imported(path) if name.split(".")[0] in {"dask", "distributed"}}
    if relative == Path("stores/arrays.py"):
        assert all(name.startswith("dask.array") for name in dask)
    elif relative.parts[0] != "pipeline":
        assert not dask


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_and_what_it_is_not(path):
    head = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert len(head.splitlines()) >= 2


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_is_a_drawer_for_odds_and_ends(path):
    assert path.stem not in {"utils", "util", "helpers", "common", "misc", "tools"}


@pytest.mark.parametrize("module", ["pipeline.cli", "pipeline.configfile", "stores"])
def test_importing_the_command_line_or_a_store_does_not_import_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.name)
def test_a_benchmark_is_not_taken_for_the_package_of_its_name(path):
    """Python looks for ``stores`` beside a script first, where ``stores.py`` measures them."""
    before_imports = path.read_text(encoding="utf-8").partition("noqa: E402")[0]
    assert re.search(r"^sys\.path(\[0\])? = ", before_imports, re.MULTILINE)
