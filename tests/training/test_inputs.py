"""The inputs of a run are hashed, so that it resumes with the same data only."""

import json

import pytest

from grm_service.errors import BadTask
from grm_service.training.callbacks import TrainingCallback
from grm_service.training.inputs import input_hashes, read_items
from grm_service.training.runs import TrainingRun
from tests.training.conftest import ITEMS, SHORT


@pytest.fixture
def folder(tmp_path):
    """Return a folder of data, which has no single file to hash."""
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder, ITEMS)
    return folder


def write(folder, items, changed=lambda text: text):
    rows = [
        {
            "id": item.id,
            "messages": [{"role": turn.role, "content": turn.content} for turn in item.messages],
            "responses": [changed(text) for text in item.responses],
            "preferred": item.correct[0],
        }
        for item in items
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_run_resumes_with_same_data_only(folder, tmp_path):
    def begin():
        items = read_items(folder, None, TrainingCallback())
        return TrainingRun(tmp_path / "run", "rft", SHORT, {"sha256": input_hashes(items, ())})

    begin()
    begin()
    write(folder, ITEMS, lambda text: text.replace("and 1,", "and one,"))
    with pytest.raises(BadTask, match="use a new folder"):
        begin()


def test_unread_files_are_reported(folder):
    class Names(TrainingCallback):
        def on_files_unread(self, names):
            self.names = names

    (folder / "rows.csv").touch()
    read_items(folder, None, names := Names())
    assert names.names == ("rows.csv",)


def test_every_file_is_hashed(tmp_path):
    for name in ("a", "b", "general"):
        (tmp_path / name).write_text(name)
    hashes = input_hashes(ITEMS, [tmp_path / "a", tmp_path / "b"], tmp_path / "general")
    assert set(hashes) == {"data", "general", "trajectories_0", "trajectories_1"}
