"""The rules of the house, read from the syntax trees: layers, names used once, sizes, late imports."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("stores", "extract", "temporal", "pipeline")
ONLY_PIPELINE = {"click", "rich", "distributed"}
FORBIDDEN = {
    "stores": {"extract", "temporal", "pipeline", "torch", "torchvision", "torchcodec"} | ONLY_PIPELINE,
    "extract": {"temporal", "pipeline"} | ONLY_PIPELINE,
    "temporal": {"extract", "pipeline"} | ONLY_PIPELINE,
    "pipeline": set(),
}
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
MOST_LINES = 400


def imported(path: Path) -> Iterator[str]:
    """Yields the full name of everything that a module imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_layer_may_and_has_a_head_and_a_size(path):
    relative, names = path.relative_to(ROOT), set(imported(path))
    package = relative.parts[0]
    assert not {name.split(".")[0] for name in names} & FORBIDDEN[package]
    if package != "pipeline":
        dask = {name for name in names if name.split(".")[0] == "dask"}
        assert all(relative == Path("stores/arrays.py") and name.startswith("dask.array") for name in dask)
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "a module says what it is"
    assert text.count("\n") <= MOST_LINES, "look for the second noun"
    assert path.stem not in {"utils", "util", "helpers", "common", "misc", "tools"}


def test_no_module_name_is_used_for_two_things():
    stems = Counter(path.stem for path in MODULES if path.stem != "__init__")
    assert not [stem for stem, times in stems.items() if times > 1]


@pytest.mark.parametrize("module", ["pipeline.cli", "pipeline.configfile", "stores"])
def test_importing_the_command_line_or_a_store_does_not_import_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.name)
def test_a_benchmark_is_not_taken_for_the_package_of_its_name(path):
    """Python looks for ``stores`` beside a script first, where ``stores.py`` measures them."""
    before_imports = path.read_text(encoding="utf-8").partition("noqa: E402")[0]
    assert re.search(r"^sys\.path(\[0\])? = ", before_imports, re.MULTILINE)
