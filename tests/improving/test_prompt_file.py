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


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "line 1: row: Invalid JSON"),
        ('{"query": "a"}', "line 1: prompt: Field required"),
        ('{"prompt": "a"}\n{"prompt": []}', "line 2: prompt"),
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
