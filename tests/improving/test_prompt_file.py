import json

import pytest

from grm_service.errors import BadTask
from grm_service.improving.prompt_file import PromptItem, read_prompts
from grm_service.types import Message


def test_prompts_are_texts_or_messages(tmp_path):
    file = tmp_path / "prompts.jsonl"
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "b"}]
    lines = [{"prompt": "a", "source": "x"}, {"prompt": turns, "id": 7, "drafts": ["1", "2"]}]
    file.write_text("\n\n".join(map(json.dumps, lines)))
    assert read_prompts(file) == [
        PromptItem("1", (Message("user", "a"),)),
        PromptItem("7", (Message("system", "Be brief."), Message("user", "b")), ("1", "2")),
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_windows_are_read(tmp_path, encoding):
    file = tmp_path / "PROMPTS.JSONL"
    rows = [{"prompt": "a", "drafts": [{"content": "1"}, "2"]}, {"prompt": "b", "system": "Be brief."}]
    file.write_bytes("\r\n".join(map(json.dumps, rows)).encode(encoding))
    assert read_prompts(file) == [
        PromptItem("1", (Message("user", "a"),), ("1", "2")),
        PromptItem("2", (Message("system", "Be brief."), Message("user", "b"))),
    ]


def test_prompt_may_end_with_a_tool_result(tmp_path):
    turns = [{"role": "user", "content": "Weather?"}, {"role": "tool", "content": "21 C"}]
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"prompt": turns}))
    (item,) = read_prompts(tmp_path / "prompts.jsonl")
    assert item.messages[-1].role == "tool"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "line 1 is not JSON"),
        ('{"query": "a"}', "line 1: there is no prompt"),
        ('{"prompt": "a"}\n{"prompt": []}', "line 2: there is no prompt"),
        ('{"prompt": [{"role": "sage", "content": "a"}]}', "line 1: prompt.*sage"),
        ('{"prompt": "a", "drafts": "[1, 2]"}', "line 1: drafts is a text: it must be a list"),
        ('{"prompt": "a", "drafts": ["1", null]}', r"line 1: drafts\[1\] is null"),
        (json.dumps({"prompt": "a", "drafts": ["1"] * 65}), "line 1: there are 65 drafts"),
        ('{"prompt": [{"role": "assistant", "content": "a"}]}', "must be the user's"),
        ('{"prompt": "a", "drafts": ["1"]}', "a single draft makes no pair"),
        ('{"prompt": "a", "id": "x"}\n{"prompt": "b", "id": "x"}', "line 2: duplicate id 'x'"),
        ("", "has no prompt"),
    ],
)
def test_invalid_prompts_name_the_line(tmp_path, text, says):
    file = tmp_path / "prompts.jsonl"
    file.write_text(text)
    with pytest.raises(BadTask, match=says):
        read_prompts(file)
