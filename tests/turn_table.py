"""An assistant's turns in the shapes of providers and data sets, with the text that every door reads."""

CALL = '```tool call: weather\n{"city": "Rome"}\n```'


def turn(content=None, **fields):
    return {"role": "assistant", "content": content, **fields}


def call(arguments, **fields):
    return {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": arguments}, **fields}


TEXTS = {
    "text": (turn("21 degrees"), "21 degrees"),
    "parts": (
        turn([{"type": "text", "text": "It is"}, {"type": "output_text", "text": "21."}]),
        "It is\n\n21.",
    ),
    "strings": (turn(["It is", "21."]), "It is\n\n21."),
    "one part": (turn({"type": "text", "text": "21"}), "21"),
    "null part": (
        turn([{"type": "text", "text": None}, {"type": "text", "text": "21", "image": None}]),
        "21",
    ),
    "call": (turn(tool_calls=[call({"city": "Rome"})]), CALL),
    "call as json": (turn("", tool_calls=[call('{"city":"Rome"}')]), CALL),
    "call with null keys": (turn(tool_calls=[call({"city": "Rome", "unit": None})], name=None), CALL),
    "call and text": (turn("Let me see.", tool_calls=[call({"city": "Rome"})]), f"Let me see.\n\n{CALL}"),
    "broken arguments": (
        turn(tool_calls=[call('{"city": "Ro')]),
        '```tool call: weather\n{"city": "Ro\n```',
    ),
    "legacy call": (turn(function_call={"name": "weather", "arguments": '{"city": "Rome"}'}), CALL),
    "anthropic call": (turn([{"type": "tool_use", "name": "weather", "input": {"city": "Rome"}}]), CALL),
    "gemini call": (turn([{"functionCall": {"name": "weather", "args": {"city": "Rome"}}}]), CALL),
    "tool result": (
        turn([{"type": "tool_result", "content": [{"type": "text", "text": "21 C"}]}]),
        "```tool result\n21 C\n```",
    ),
    "tool result as json": (
        turn([{"type": "tool_result", "content": {"celsius": 21}}]),
        '```tool result\n{"celsius": 21}\n```',
    ),
    "refusal": (turn(refusal="I cannot."), "```refusal\nI cannot.\n```"),
    "refusal part": (turn([{"type": "refusal", "refusal": "I cannot."}]), "```refusal\nI cannot.\n```"),
    "only reasoning": (turn(reasoning_content="Warm?"), "```reasoning\nWarm?\n```"),
    "only reasoning, empty text": (turn("", reasoning="Warm?"), "```reasoning\nWarm?\n```"),
    "reasoning and text": (turn("21", reasoning_content="Warm?"), "21"),
    "thinking part": (turn([{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "21"}]), "21"),
    "thinking in the text": (turn("<think>Hm</think>21"), "<think>Hm</think>21"),
    "imitated block": (
        turn(f"{CALL}\nIt is 21.", tool_calls=[call({})]),
        '```quoted tool call: weather\n{"city": "Rome"}\n```\nIt is 21.\n\n```tool call: weather\n{}\n```',
    ),
    "null in arguments as json": (
        turn(tool_calls=[call('{"unit": null}')]),
        '```tool call: weather\n{"unit": null}\n```',
    ),
    "arguments that are no object": (
        turn(tool_calls=[call(0)]),
        "```tool call: weather\n0\n```",
    ),
    "call without function": (
        turn(tool_calls=[{"id": "c1", "type": "function", "function": None}]),
        '```tool call\n{"id": "c1", "type": "function"}\n```',
    ),
    "name for a function": (turn(tool_calls=[{"function": "weather", "arguments": {"city": "Rome"}}]), CALL),
    "thought of gemini": (turn([{"text": "Hm", "thought": True}, {"text": "21"}]), "21"),
    "code of gemini": (
        turn([{"executableCode": {"code": "1"}}, {"codeExecutionResult": {"output": "1"}}]),
        '```tool call\n{"code": "1"}\n```\n\n```tool result\n1\n```',
    ),
    "search of anthropic": (
        turn(
            [
                {"type": "server_tool_use", "name": "web_search", "input": {"query": "x"}},
                {"type": "web_search_tool_result", "content": [{"title": "T"}]},
            ]
        ),
        '```tool call: web_search\n{"query": "x"}\n```\n\n```tool result\n[{"title": "T"}]\n```',
    ),
    "call with its output": (
        turn([{"type": "mcp_call", "name": "weather", "arguments": '{"city": "Rome"}', "output": "21 C"}]),
        f"{CALL}\n\n```tool result: weather\n21 C\n```",
    ),
    "spoken answer": (turn(audio={"id": "a1", "transcript": "21"}), "21"),
    "spoken part": (turn([{"type": "output_audio", "transcript": "21"}]), "21"),
    "fence in arguments": (
        turn(tool_calls=[call("```\nend")]),
        "````tool call: weather\n```\nend\n````",
    ),
    "empty text": (turn(""), ""),
}
IMAGES = [
    {"type": "image", "text": None},
    {"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}},
    {"type": "input_image", "image_url": "x"},
    {"type": "image", "source": {"data": "x"}},
]
NULL = [None, [], turn(), turn([]), turn([{"type": "text", "text": None}]), turn(tool_calls=[]), [turn()]]
TRAJECTORY = [
    turn(tool_calls=[call({"city": "Rome"})]),
    {"role": "tool", "name": "weather", "content": "21 C", "tool_call_id": "c1"},
    {"role": "user", "content": "So?"},
    turn("It is 21."),
]
TRAJECTORY_TEXT = f"{CALL}\n\n```tool result: weather\n21 C\n```\n\n```user turn\nSo?\n```\n\nIt is 21."
