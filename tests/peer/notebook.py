"""Runs docs/notebook.ipynb on the quickstart's results, cell after cell, and the snippets of docs/python.md.

    pip install pandas polars duckdb matplotlib pyarrow
    emoflow run experiments/quickstart.toml
    python tests/peer/notebook.py

Where Python lacks one of these it says SKIPPED. Fails where a cell fails, or where pandas, polars and DuckDB read different numbers.
"""

import importlib.util
import json
import os
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parents[2]
needed = ["pandas", "polars", "duckdb", "matplotlib", "pyarrow"]
lacking = [name for name in needed if importlib.util.find_spec(name) is None]
if lacking:
    print("SKIPPED: no", *lacking)
    sys.exit(0)

import matplotlib

matplotlib.use("Agg")
os.chdir(os.environ.get("EMOFLOW_PROJECT", root))

cells = [cell for cell in json.loads((root / "docs/notebook.ipynb").read_text())["cells"] if cell["cell_type"] == "code"]
names = {}
for cell in cells:
    exec("".join(cell["source"]), names)
print(f"{len(cells)} cells of the notebook")

names = {}
snippets = re.findall(r"```python\n(.*?)```", (root / "docs/python.md").read_text(), re.S)
for snippet in snippets:
    exec(snippet, names)
print(f"{len(snippets)} snippets of the page")

# Every table, by all three: the same columns, rows and sums.
import duckdb
import pandas as pd
import polars as pl

tables = sorted(pathlib.Path("results/quickstart").glob("**/*.parquet"))
assert tables
for path in tables:
    theirs = pd.read_parquet(path)
    lazy = pl.read_parquet(path)
    said = duckdb.sql(f"describe select * from '{path}'").fetchall()
    assert list(theirs.columns) == lazy.columns == [row[0] for row in said], path
    assert len(theirs) == len(lazy), path
    for column in theirs.columns:
        if pd.api.types.is_float_dtype(theirs[column]) and theirs[column].notna().any():
            sums = [
                theirs[column].sum(),
                lazy[column].cast(pl.Float64).sum(),
                duckdb.sql(f"select sum(\"{column}\"::double) from '{path}'").fetchall()[0][0],
            ]
            scale = max(1.0, abs(sums[0]))
            assert max(sums) - min(sums) <= 1e-4 * scale, (path, column, sums)
print(f"{len(tables)} tables: pandas, polars and DuckDB read the same")
