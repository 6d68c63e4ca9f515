r"""Make a small judge that thinks: `python -m tests.real.thinking_model FOLDER` (minutes on two cores).

SmolLM2-135M learns from generated examples to write thinking before every answer, as Qwen3 and DeepSeek-R1
do. Its thinking always contains what must never be read: a draft `\boxed{}` with the wrong winner, and
criteria that it then rejects. Drafts and verdicts have other numbers, rejected criteria and principles other
words, so that a test can see which of them was read.

It is saved with three templates. FOLDER/qwen3 is in the manner of Qwen3: `enable_thinking` turns the thinking
off, and the thinking of the last turn is rendered again. FOLDER/r1 is in the manner of DeepSeek-R1: the
prompt ends in the start tag, and earlier turns lose their thinking. FOLDER/prefill is qwen3, but leaves a
last turn of the assistant open, so that `transformers serve` continues it.
"""

import random
import sys
from pathlib import Path

from grm_service.engines.files import weights
from grm_service.judging.prompt import render, render_query
from grm_service.profiles.catalog import load_catalog, load_profile
from grm_service.profiles.profile import fill
from grm_service.settings import Settings
from grm_service.types import Message, Principle

PROFILE = Path(__file__).with_name("thinking_judge.yaml")
DRAFT = (4, 6)
"""The scores of the best response and of the others in drafts; a verdict has GOOD and BAD."""
GOOD, BAD = 9, 2
REJECTED = ("flattery", "length", "humour")
"""What the dropped criteria are about; no principle contains these words."""

QWEN3, R1, PREFILL = "qwen3", "r1", "prefill"
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
_PREFILL = _QWEN3.replace(
    "{{- '<|im_end|>\\n' }}",
    "{%- if not (loop.last and message.role == 'assistant') %}{{- '<|im_end|>\\n' }}{%- endif %}",
).replace("if add_generation_prompt", "if add_generation_prompt and messages[-1].role != 'assistant'")
VARIANTS = {QWEN3: _QWEN3, R1: _R1, PREFILL: _PREFILL}
"""The chat template of each variant."""

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
_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CRITERIA = (
    "The facts are right",
    "It answers the question",
    "The steps are clear",
    "Nothing is invented",
    "It can be checked",
    "It fits the reader",
)


def examples(seed: int, count: int):
    """Return pairs of messages and the completion with its thinking."""
    rng, profile = random.Random(seed), load_profile(PROFILE)
    kinds = (_judgement, _judgement, _judgement, _scores, _principles, _chat)
    return [rng.choice(kinds)(rng, profile) for _ in range(count)]


def _judgement(rng, profile):
    question, answer = rng.choice(QUESTIONS)
    n = rng.choice((2, 2, 2, 3))
    best = rng.randrange(n)
    responses = [answer if i == best else rng.choice(NO_ANSWERS) for i in range(n)]
    criteria = _criteria(rng)
    given = criteria if rng.random() < 0.3 else []
    prompt = render(profile, [Message("user", question)], responses, "fixed", given)
    others = " and ".join(str(i + 1) for i in range(n) if i != best)
    thinking = (
        f"Perhaps judge by {rng.choice(REJECTED)}:\n{_boxed(n, best, DRAFT)}\n"
        f"No, response {best + 1} answers and {others} not."
    )
    critique = f"Criteria:\n{_listed(criteria)}\nAnalysis: response {best + 1} answers the question."
    return prompt.messages, thinking, f"{critique}\n{_boxed(n, best, (GOOD, BAD))}"


def _scores(rng, profile):
    """Return a judgement that was cut off, and is asked for its scores."""
    messages, thinking, answer = _judgement(rng, profile)
    critique, scores = answer.rsplit("\n", 1)
    written = rng.choice((critique, thinking, "(no answer)"))
    cut = written[: rng.randrange(5, len(written) + 1)]
    ask = fill(profile.closing.ask, {"boxed": ", ".join("x" for _ in scores.split(","))})
    return (*messages, Message("assistant", cut), Message("user", ask)), thinking, scores


def _criteria(rng):
    first, second = rng.sample(CRITERIA, 2)
    return [Principle(first, 0.6), Principle(second, 0.4)]


def _boxed(n, best, scores):
    right, wrong = scores
    return f"Scores: \\boxed{{{', '.join(str(right if i == best else wrong) for i in range(n))}}}"


def _listed(criteria):
    return "\n".join(f"{i}. {each.text} (Weight: {each.weight:.0%})" for i, each in enumerate(criteria, 1))


def _principles(rng, profile):
    question, _ = rng.choice(QUESTIONS)
    prompt = render_query(profile, [Message("user", question)])
    rejected = [Principle(f"Prefer {word}", 0.5) for word in rng.sample(REJECTED, 2)]
    criteria = _criteria(rng)
    return prompt.messages, f"Perhaps:\n{_listed(rejected)}\nNo, both are bad.", _listed(criteria)


def _chat(rng, _):
    word = rng.choice(("yes", "no", "hello", "7", "blue"))
    question, answer = rng.choice((*QUESTIONS, (f"Say: {word}", word), ("Hello", "Hello!")))
    return (Message("user", question),), "This is easy. Answer in a few words.", answer


def train(folder: Path, seed: int = 1, count: int = 288, batch: int = 8, rate: float = 1.5e-3) -> None:
    """Train the model and save it (see `save`)."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    gguf = load_catalog().profile("smollm2-135m").gguf
    base = weights.ensure_safetensors(gguf, Settings().cache_dir)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        # The form is learnt in the upper layers; those below need no gradients.
        LoraConfig(r=16, lora_alpha=32, target_modules=_LINEAR, layers_to_transform=list(range(14, 30))),
    )
    rows = [encode(tokenizer, *each, off=i % 4 == 0) for i, each in enumerate(examples(seed, count))]
    # Batches of rows of like length have little padding.
    rows.sort(key=lambda row: len(row[0]))
    batches = [rows[at : at + batch] for at in range(0, len(rows), batch)]
    random.Random(seed).shuffle(batches)
    steps = len(batches)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.15)
    for step, part in enumerate(batches, 1):
        size = max(len(ids) for ids, _ in part)
        ids = torch.tensor([ids + [tokenizer.pad_token_id] * (size - len(ids)) for ids, _ in part])
        labels = torch.tensor([labels + [-100] * (size - len(labels)) for _, labels in part])
        mask = torch.tensor([[1] * len(ids_) + [0] * (size - len(ids_)) for ids_, _ in part])
        # Only where something is learnt: the vocabulary is a large part of so small a model's work.
        learnt = labels[:, 1:] != -100
        hidden = model.base_model.model.model(ids, attention_mask=mask).last_hidden_state[:, :-1][learnt]
        logits = model.base_model.model.lm_head(hidden)
        loss = torch.nn.functional.cross_entropy(logits, labels[:, 1:][learnt])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        print(f"step {step}/{steps} loss {loss.item():.3f}", flush=True)
    save(model.merge_and_unload(), tokenizer, folder)


def save(model, tokenizer, folder: Path) -> None:
    """Save a model in a folder for each of VARIANTS, which share the file of its weights."""
    model.generation_config.do_sample = True  # without it, `transformers serve` ignores the temperature
    partial = folder.with_name(f"{folder.name}.partial")
    for name, template in VARIANTS.items():
        tokenizer.chat_template = template
        tokenizer.save_pretrained(partial / name)
        if name == QWEN3:
            model.save_pretrained(partial / name)
            continue
        model.config.save_pretrained(partial / name)
        model.generation_config.save_pretrained(partial / name)
        (partial / name / "model.safetensors").symlink_to(f"../{QWEN3}/model.safetensors")
    partial.rename(folder)


def encode(tokenizer, messages, thinking, answer, off):
    """Return the token ids and labels of an example, rendered as the templates do; `off` is its thinking."""
    turns = "".join(f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in messages)
    thought, answer = f"<think>\n{'' if off else thinking}\n</think>\n\n", f"{answer}<|im_end|>"
    prompt = f"{turns}<|im_start|>assistant\n" + (thought if off else "")
    context = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    completion = tokenizer(answer if off else thought + answer, add_special_tokens=False)["input_ids"]
    return context + completion, [-100] * len(context) + completion


if __name__ == "__main__":
    train(Path(sys.argv[1]))
