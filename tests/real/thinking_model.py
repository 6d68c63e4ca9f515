r"""Make a small judge that thinks: `python -m tests.real.thinking_model FOLDER` (minutes on two cores).

SmolLM2-135M learns from generated examples to write thinking before every answer, as Qwen3 and DeepSeek-R1
do. Its thinking always contains what must never be read: a draft `\boxed{}` with the wrong winner, and
criteria that it then rejects. Drafts and verdicts have other numbers, rejected criteria and principles other
words, so that a test can see which of them was read.

The weights are saved three times. FOLDER/qwen3 has a chat template in the manner of Qwen3: `enable_thinking`
turns the thinking off, and the thinking of the last turn is rendered again. FOLDER/r1 is in the manner of
DeepSeek-R1: the prompt ends in the start tag, and the thinking of earlier turns is dropped. FOLDER/field is
qwen3 with a response template, by which `transformers serve` returns the thinking in a field of its own.
"""

import random
import sys
from pathlib import Path

from grm_service.engines.files import weights
from grm_service.judging.prompt import render, render_query
from grm_service.profiles.catalog import load_catalog, load_profile
from grm_service.settings import Settings
from grm_service.types import Message, Principle

PROFILE = Path(__file__).with_name("thinking_judge.yaml")
DRAFT = (4, 6)
"""The scores of drafts; a verdict has GOOD and BAD."""
GOOD, BAD = 9, 2
REJECTED = ("flattery", "length", "humour")
"""What the dropped criteria are about; no principle contains these words."""

QWEN3, R1, FIELD = "qwen3", "r1", "field"
_QWEN3 = """{% for message in messages %}
{%- if message.role == 'assistant' %}
{%- set content = message.content %}
{%- set thinking = message.reasoning_content if message.reasoning_content else '' %}
{%- if '</think>' in content %}
{%- set thinking = content.split('</think>')[0].split('<think>')[-1] %}
{%- set content = content.split('</think>')[-1] %}
{%- endif %}
{{- '<|im_start|>assistant\\n' }}
{%- if loop.last %}
{{- '<think>\\n' + thinking.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
{%- else %}
{{- content.lstrip('\\n') }}
{%- endif %}
{%- else %}
{{- '<|im_start|>' + message.role + '\\n' + message.content }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}"""
_R1 = """{% for message in messages %}
{%- set content = message.content %}
{%- if message.role == 'assistant' and '</think>' in content %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n<think>\\n' }}
{%- endif %}"""
_PARSED = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "reasoning_content": {"open": "<think>", "close": "</think>", "content": "text"},
        "content": {"close_pattern": r"\s*<\|im_end\|>", "content": "text"},
    },
}
VARIANTS = {QWEN3: (_QWEN3, None), R1: (_R1, None), FIELD: (_QWEN3, _PARSED)}
"""The chat template and the response template of each variant."""

QUESTIONS = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is the capital of Germany?", "The capital of Germany is Berlin."),
    ("What is the capital of Spain?", "The capital of Spain is Madrid."),
    ("What is the capital of Italy?", "The capital of Italy is Rome."),
    ("What is the capital of Japan?", "The capital of Japan is Tokyo."),
    ("What is the capital of Australia?", "Canberra."),
    ("Which day comes after Monday?", "The day after Monday is Tuesday."),
    ("Which day comes after Thursday?", "The day after Thursday is Friday."),
    ("Which month comes after May?", "The month after May is June."),
    ("What is 2 + 3?", "2 + 3 = 5"),
    ("What is 6 * 7?", "6 * 7 = 42"),
    ("What is 10 - 4?", "It is 6."),
    ("Why is the sky blue?", "Air scatters blue light more than red light."),
    ("How do I boil an egg?", "Put it into boiling water for eight minutes."),
    ("Name three primes.", "2, 3 and 5"),
    ("Who wrote Faust?", "Johann Wolfgang von Goethe."),
    ("Who wrote Hamlet?", "William Shakespeare wrote Hamlet."),
    ("What does git rebase do?", "It replays commits on another base."),
    ("Translate 'good morning' into Spanish.", "Buenos días."),
    ("Translate 'thank you' into German.", "Danke."),
    ("Suggest a name for a grey cat.", "Ash."),
    ("Put in order: 3, 1, 2", "1, 2, 3"),
    ("What is the largest planet?", "Jupiter is the largest planet."),
    ("What do bees make?", "Bees make honey."),
    ("What is water made of?", "Water is made of hydrogen and oxygen."),
    ("How many legs has a spider?", "A spider has eight legs."),
    ("Where do penguins live?", "Most penguins live in the south."),
    ("What is a haiku?", "A short poem of three lines."),
    ("How can I sleep better?", "Go to bed at the same time each day and avoid coffee."),
    ("How do I learn to cook?", "Start with three simple recipes and repeat them."),
    ("Explain recursion to a child.", "A box with a smaller box in it, and so on."),
    ("What is the opposite of hot?", "Cold is the opposite of hot."),
)
NO_ANSWERS = ("I do not know.", "No idea.", "Ask someone else.", "I cannot help with that.")
CRITERIA = (
    "The facts are right",
    "It answers the question",
    "The steps are clear",
    "Nothing is invented",
    "It can be checked",
    "It fits the reader",
)


def think(thinking: str, answer: str) -> str:
    """Return a completion with its thinking, as the templates render it."""
    return f"<think>\n{thinking}\n</think>\n\n{answer}"


def examples(seed: int, count: int):
    """Return pairs of messages and the completion with its thinking."""
    rng, profile = random.Random(seed), load_profile(PROFILE)
    kinds = (_judgement, _judgement, _judgement, _principles, _chat)
    return [rng.choice(kinds)(rng, profile) for _ in range(count)]


def _judgement(rng, profile):
    question, answer = rng.choice(QUESTIONS)
    n = rng.choice((2, 2, 2, 3))
    best = rng.randrange(n)
    responses = [answer if i == best else rng.choice(NO_ANSWERS) for i in range(n)]
    criteria = rng.sample(CRITERIA, 2)
    principles = [Principle(criteria[0], 0.6), Principle(criteria[1], 0.4)] if rng.random() < 0.3 else []
    prompt = render(profile, [Message("user", question)], responses, "fixed", principles)
    low, high = DRAFT
    draft = ", ".join(str(low if i == best else high) for i in range(n))
    others = " and ".join(str(i + 1) for i in range(n) if i != best)
    thinking = (
        f"Perhaps judge by {rng.choice(REJECTED)}:\nScores: \\boxed{{{draft}}}\n"
        f"No, response {best + 1} answers and {others} not."
    )
    scores = ", ".join(str(GOOD if i == best else BAD) for i in range(n))
    weights_ = rng.choice(((60, 40), (70, 30)))
    listed = "\n".join(
        f"{i}. {text} (Weight: {w}%)" for i, (text, w) in enumerate(zip(criteria, weights_, strict=True), 1)
    )
    analysis = f"response {best + 1} answers the question."
    answer = f"Criteria:\n{listed}\nAnalysis: {analysis}\nScores: \\boxed{{{scores}}}"
    return prompt.messages, think(thinking, answer)


def _principles(rng, profile):
    question, _ = rng.choice(QUESTIONS)
    first, second = rng.sample(CRITERIA, 2)
    prompt = render_query(profile, [Message("user", question)])
    dropped, other = rng.sample(REJECTED, 2)
    drafts = f"1. Prefer {dropped} (Weight: 90%)\n2. Prefer {other} (Weight: 10%)"
    thinking = f"Perhaps:\n{drafts}\nNo, both are bad."
    return prompt.messages, think(thinking, f"1. {first} (Weight: 60%)\n2. {second} (Weight: 40%)")


def _chat(rng, profile):
    word = rng.choice(("yes", "no", "hello", "7", "blue"))
    question, answer = rng.choice((*QUESTIONS, (f"Say: {word}", word), ("Hello", "Hello!")))
    return (Message("user", question),), think("This is easy. Answer in a few words.", answer)


def train(folder: Path, seed: int = 1, count: int = 800, batch: int = 8, rate: float = 1e-3) -> None:
    """Save the trained model in a folder for each of VARIANTS."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    package = load_catalog().profile("smollm2-135m").package
    base = weights.ensure_safetensors(package, Settings().cache_dir)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    rows = [encode(tokenizer, *example, closed=i % 5 == 0) for i, example in enumerate(examples(seed, count))]
    # Batches of rows of like length have little padding.
    rows.sort(key=lambda row: len(row[0]))
    batches = [rows[at : at + batch] for at in range(0, len(rows), batch)]
    random.Random(seed).shuffle(batches)
    steps = len(batches)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    for step, part in enumerate(batches, 1):
        size = max(len(ids) for ids, _ in part)
        ids = torch.tensor([ids + [tokenizer.pad_token_id] * (size - len(ids)) for ids, _ in part])
        labels = torch.tensor([labels + [-100] * (size - len(labels)) for _, labels in part])
        mask = torch.tensor([[1] * len(ids_) + [0] * (size - len(ids_)) for ids_, _ in part])
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        print(f"step {step}/{steps} loss {loss.item():.3f}", flush=True)
    merged = model.merge_and_unload()
    merged.generation_config.do_sample = True  # without it, `transformers serve` ignores the temperature
    for name, (template, parsed) in VARIANTS.items():
        merged.save_pretrained(folder / name)
        tokenizer.chat_template, tokenizer.response_template = template, parsed
        tokenizer.save_pretrained(folder / name)


def encode(tokenizer, messages, completion, closed):
    """Return token ids and labels of an example; with `closed`, the prompt has an empty thinking."""
    prompt = "".join(f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in messages)
    prompt += "<|im_start|>assistant\n"
    if closed:
        prompt, completion = f"{prompt}<think>\n\n</think>\n\n", completion.split("</think>\n\n")[1]
    context = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answer = [*tokenizer(completion, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return context + answer, [-100] * len(context) + answer


if __name__ == "__main__":
    train(Path(sys.argv[1]))
