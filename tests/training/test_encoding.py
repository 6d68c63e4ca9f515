"""Examples are encoded to the tokens that the engine gets in serving."""

from dataclasses import replace

import pytest

from grm_service.engines.transformers.engine import TransformersEngine, encode
from grm_service.judging.plan import plan
from grm_service.judging.sampler import Sampler
from grm_service.profiles.profile import ThinkingSettings
from grm_service.training.encoding import Encoder, encode_all
from grm_service.training.rejection_sampling import Example
from grm_service.training.trajectories import Trajectory
from grm_service.types import JudgeOptions, Message, Params, Task, Thinking
from tests.engines.tiny import TEMPLATE
from tests.training.conftest import EXAMPLES, ITEMS, OPENED, SHORT, TEXT

pytestmark = pytest.mark.anyio


@pytest.fixture
def tokenizer(tiny):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny)


async def test_training_tokens_are_serving_tokens(tiny):
    engine = TransformersEngine("tiny", lambda: str(tiny))
    await engine.start()
    prompts, write = [], engine._generator.generate

    async def record(ids, params):
        prompts.append(ids)
        return await write(ids, params)

    engine._generator.generate = record
    item = ITEMS[0]
    planned = plan(Task(item.messages, item.responses, options=JudgeOptions(k=2, seed=3)), OPENED)
    encoder = Encoder(engine._tokenizer, OPENED, engine._end_ids)
    trained = encoder.example(Example(item, Trajectory(planned.orders[1], TEXT, (8.0, 3.0), True)))
    await Sampler(engine).sample(planned, 1)
    assert prompts[0] == trained.prompt
    # The whole text, as in the request for the probabilities of soft scores.
    prompt = replace(encoder.prompt(item, planned.orders[1]), continuation=TEXT)
    await engine.complete(prompt, Params(1))
    assert prompts[-1] == trained.prompt + trained.completion[:-1]
    assert trained.completion[-1] == engine._tokenizer.convert_tokens_to_ids("<|im_end|>")
    await engine.close()


def test_loss_is_on_the_completion(tokenizer):
    row = Encoder(tokenizer, OPENED, (1,)).example(EXAMPLES[0]).row
    labels = [label for label in row["labels"] if label != -100]
    assert tokenizer.decode(labels) == TEXT.removeprefix(OPENED.opening) + "<|im_end|>"
    assert row["input_ids"][-len(labels) :] == labels


def test_only_the_number_of_a_comparison(tokenizer):
    """The example ends there: that the turn ends behind the number is not learned."""
    profile = replace(OPENED, comparison="\nAnalysis: Response #{{best}} is best")
    text = OPENED.opening + " says so.\nAnalysis: Response #2 is best.\nScores: \\boxed{3, 8}"
    example = replace(EXAMPLES[0], trajectory=replace(EXAMPLES[0].trajectory, text=text))
    row = Encoder(tokenizer, profile, (1,), only_scores=True).example(example).row
    assert tokenizer.decode([label for label in row["labels"] if label != -100]) == "2"
    assert tokenizer.decode(row["input_ids"]).endswith("says so.\nAnalysis: Response #2")


def test_text_without_the_comparison_is_learned_by_its_scores(tokenizer):
    profile = replace(OPENED, comparison="\nAnalysis: Response #{{best}} is best")
    row = Encoder(tokenizer, profile, (1,), only_scores=True).example(EXAMPLES[0]).row
    assert "8, 3}" in tokenizer.decode([label for label in row["labels"] if label != -100])


def test_only_scores(tokenizer):
    whole = Encoder(tokenizer, OPENED, (1,)).example(EXAMPLES[0]).row
    scores = Encoder(tokenizer, OPENED, (1,), only_scores=True).example(EXAMPLES[0]).row
    assert scores["input_ids"] == whole["input_ids"]
    labels = [label for label in scores["labels"] if label != -100]
    assert "8, 3}" in tokenizer.decode(labels)
    assert "boxed" not in tokenizer.decode(labels)
    assert scores["labels"][-len(labels) :] == whole["input_ids"][-len(labels) :]


def test_text_after_scores_is_cut(tokenizer):
    encoder = Encoder(tokenizer, OPENED, (1,))
    longer = [replace(e, trajectory=replace(e.trajectory, text=e.trajectory.text + "\nSo")) for e in EXAMPLES]
    assert encode_all(encoder, longer, [], 512, 0) == encode_all(encoder, EXAMPLES, [], 512, 0)


def test_examples_left_out(tokenizer):
    encoder = Encoder(tokenizer, OPENED, (1,))
    other = [replace(e, trajectory=replace(e.trajectory, text="Scores: \\boxed{8, 3}")) for e in EXAMPLES]
    rows, left_out = encode_all(encoder, [*other, EXAMPLES[0]], [], 512, 0)
    assert (len(rows), left_out) == (1, {"not_opened": 6})
    assert encode_all(encoder, EXAMPLES, [], 64, 0)[1] == {"too_long": 6}


def test_instruction_prompt(tokenizer):
    tokens = Encoder(tokenizer, OPENED, (1,)).instruction((Message("user", "x"), Message("assistant", "y")))
    prompt = "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"
    assert tokens.prompt == encode(tokenizer, prompt)


OPENS = "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
CAN_SKIP = (
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
PLAIN = replace(SHORT, opening="")
ANSWER = "Analysis: Both do.\nScores: \\boxed{8, 3}"
THOUGHT = Thinking("Is it \\boxed{3, 8}?")


def trained(tokenizer, ending, thinking, profile=PLAIN, only_scores=False):
    """Return the texts of the prompt's end and of the completion, in a template with this ending."""
    start = TEMPLATE.partition("{% if add")[0]
    tokenizer.chat_template = start + ending
    trajectory = replace(EXAMPLES[0].trajectory, text=ANSWER, thinking=thinking)
    encoder = Encoder(tokenizer, profile, (1,), only_scores)
    tokens = encoder.example(replace(EXAMPLES[0], trajectory=trajectory))
    prompt = tokenizer.decode(tokens.prompt).rpartition("<|im_start|>assistant\n")[2]
    return prompt, tokenizer.decode(tokens.completion).removesuffix("<|im_end|>")


def test_thinking_is_learned_with_the_answer(tokenizer):
    whole = f"{THOUGHT.text}\n</think>\n\n{ANSWER}"
    assert trained(tokenizer, OPENS, THOUGHT) == ("<think>\n", whole)
    assert trained(tokenizer, CAN_SKIP, THOUGHT) == ("", "<think>\n" + whole)


def test_answers_without_thinking_follow_ended_thinking(tokenizer):
    ended = "<think>\n\n</think>\n\n"
    assert trained(tokenizer, OPENS, None) == (ended, ANSWER)
    assert trained(tokenizer, CAN_SKIP, None) == (ended, ANSWER)


def test_only_scores_after_thinking(tokenizer):
    prompt, completion = trained(tokenizer, OPENS, THOUGHT, only_scores=True)
    assert prompt.startswith(f"<think>\n{THOUGHT.text}\n</think>\n\nAnalysis")
    assert completion.endswith("8, 3}")
    assert "Both" not in completion


def test_profile_variables_reach_the_template(tokenizer):
    on = {"chat_template_kwargs": {"enable_thinking": True}}
    profile = replace(PLAIN, thinking=ThinkingSettings(on=on))
    ending = "{% if add_generation_prompt %}<|im_start|>assistant\n{{ enable_thinking }}{% endif %}"
    assert trained(tokenizer, ending, THOUGHT, profile)[0] == "True"


def test_thinking_of_instructions(tokenizer):
    tokenizer.chat_template = TEMPLATE.partition("{% if add")[0] + OPENS
    encoder = Encoder(tokenizer, PLAIN, (1,))
    question = Message("user", "x")
    thinks = encoder.instruction((question, Message("assistant", "<think>Hm.</think>y")))
    assert tokenizer.decode(thinks.completion) == "Hm.\n</think>\n\ny<|im_end|>"
    mentions = encoder.instruction((question, Message("assistant", "Write <think> first.")))
    assert tokenizer.decode(mentions.completion) == "Write <think> first.<|im_end|>"
