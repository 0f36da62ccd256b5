from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ravesvc.config.database import Database
from ravesvc.errors import Code, RaveError
from ravesvc.store.engines.mongo import MongoStore
from ravesvc.store.factory import make_store

PROGRAM = """
import sys
from pathlib import Path
from ravesvc.store.factory import make_store
assert make_store(None, Path("state.db"), print).engine == "embedded"
print([name for name in ("pymongo", "bson") if name in sys.modules])
"""


@pytest.mark.process
def test_without_a_database_the_store_is_the_embedded_one_and_no_driver_is_loaded(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "[]\n"
    assert not list(tmp_path.iterdir()), "it is not open yet"


def test_with_a_database_the_store_is_there_and_tells(tmp_path: Path) -> None:
    told: list[bool] = []
    store = make_store(
        Database(path="database.json", uri="mongodb://localhost/bot"), tmp_path / "state.db", told.append
    )
    assert isinstance(store, MongoStore)
    assert store.engine == "mongodb"
    assert store._changed == told.append


def test_a_database_that_the_driver_does_not_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RaveError, match="uri is not taken by the driver") as caught:
        make_store(Database(path="database.json", uri="mongodb://local host:x"), tmp_path / "state.db", print)
    assert caught.value.code is Code.CONFIG
