"""Columns that hold lists, and what importing the room costs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tests.data.sets import GOLDEN

from nextmove.data import open_dataset


def test_language_columns_come_as_lists(tmp_path: Path) -> None:
    root = Path(shutil.copytree(GOLDEN / "lerobot_dataset_v3" / "dataset", tmp_path / "set"))
    path = root / "meta/info.json"
    info = json.loads(path.read_text())
    info["features"]["language_events"] = {"dtype": "language", "shape": [1], "names": None}
    path.write_text(json.dumps(info))
    for part in root.glob("data/*/*.parquet"):
        table = pq.read_table(part)
        said = [[{"role": "user", "content": f"{row}"}] for row in range(table.num_rows)]
        pq.write_table(table.append_column("language_events", pa.array(said)), part)
    assert open_dataset(root).item(19)["language_events"] == [{"role": "user", "content": "19"}]


def test_importing_the_room_loads_no_reader() -> None:
    code = "import nextmove.data, sys; print({'av', 'pyarrow', 'PIL', 'pandas', 'datasets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
