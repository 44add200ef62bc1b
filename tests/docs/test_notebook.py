"""The notebook runs from top to bottom on a small demo, and is committed without outputs."""

import sys

import nbformat
import pytest
from nbclient import NotebookClient
from pages import ROOT

NOTEBOOK = ROOT / "docs" / "notebooks" / "scores.ipynb"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_notebook_goes_from_stores_to_scores_and_a_plot(reader, monkeypatch):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    # The kernel is this interpreter, whatever is called python3 elsewhere; it finds the packages as we do.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    kernels = reader / "share" / "jupyter" / "kernels" / "python3"
    kernels.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernels / "kernel.json").write_text(
        f'{{"argv": {command!r}, "display_name": "Python 3", "language": "python"}}'.replace("'", '"')
    )
    monkeypatch.setenv("JUPYTER_PATH", str(reader / "share" / "jupyter"))
    NotebookClient(notebook, timeout=240, kernel_name="python3").execute(cwd=str(reader))
    shown = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert any("V" in data["text/html"] for data in shown if "text/html" in data)
    assert sum("image/png" in data for data in shown) == 2
