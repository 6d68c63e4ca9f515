"""General instructions are read from JSON Lines and drawn by their share."""

import gzip
import json

import pytest

from grm_service.errors import BadTask
from grm_service.training.instruction_data import draw_share, read_instructions
from grm_service.types import Message


@pytest.fixture
def file(tmp_path):
    rows = [
        {"prompt": f"Name {i} primes.", "completion": "2, 3"}
        if i % 2
        else {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
        for i in range(20)
    ]
    file = tmp_path / "general.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_both_formats_are_read(file):
    instructions = read_instructions(file)
    assert instructions[0] == (Message("user", "x"), Message("assistant", "y"))
    assert instructions[1] == (Message("user", "Name 1 primes."), Message("assistant", "2, 3"))


def test_share_of_all_examples(file):
    instructions = read_instructions(file)
    assert len(draw_share(instructions, 0.25, 6, 0)) == 2
    assert len(draw_share(instructions, 0.9, 6, 0)) == 20, "all there are"


def test_bad_row_is_named(file):
    file.write_text('{"prompt": "x"}\n')
    with pytest.raises(BadTask, match="line 1 is not an instruction: completion is missing"):
        read_instructions(file)


def test_turns_and_system_column_are_read(file):
    turns = [{"role": "user", "content": "x"}]
    answer = {"role": "assistant", "content": [{"type": "text", "text": "y"}]}
    row = {"system": "Be brief.", "prompt": turns, "completion": [answer], "messages": None}
    file.write_bytes(gzip.compress(json.dumps(row).encode("utf-8-sig")))
    expected = (Message("system", "Be brief."), Message("user", "x"), Message("assistant", "y"))
    assert read_instructions(file) == [expected]
