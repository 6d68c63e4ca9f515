"""A baseline for trained judges: a linear reward head on the hidden states of the judge's base model.

`python -m benchmarks.reward_head TRAIN DEV --profile smollm2-135m` encodes each response alone, after its
conversation. A head on the states of one layer (their mean, and the last token's) is fitted to preferences
(Bradley-Terry). Layer and penalty are chosen on a fifth of TRAIN, and DEV is evaluated once. A judge trained
from the same model and data will hardly do better.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product
from statistics import fmean
from typing import Any

import torch

from grm_service.engines.files.source import transformers_path
from grm_service.engines.transformers.dtype import compute_dtype
from grm_service.engines.transformers.engine import chat_template, encode
from grm_service.evaluation.dataset import Item, subset
from grm_service.evaluation.outcomes import credit
from grm_service.evaluation.stats import bootstrap
from grm_service.factory import default_source
from grm_service.settings import Settings
from grm_service.training.callbacks import TrainingCallback
from grm_service.training.inputs import read_items
from grm_service.types import Params, Prompt

LAYERS, PENALTIES = (0.33, 0.53, 0.67, 0.8, 0.93), (0.01, 0.1, 1.0)
"""Depths of the layers, as fractions of the model's."""
_TOKENS = 256
"""The last tokens of a conversation and the first tokens of a response that are encoded."""


def states(model: Any, tokenizer: Any, item: Item) -> torch.Tensor:
    """Return the states of every response at every layer of LAYERS, (responses, layers, 2 x width)."""
    rendered = chat_template(tokenizer).render(Prompt(item.messages), Params(1))
    conversation = encode(tokenizer, rendered.text)[-_TOKENS:]
    rows = []
    for response in item.responses:
        tokens = tokenizer(response, add_special_tokens=False)["input_ids"][:_TOKENS]
        tokens.append(tokenizer.eos_token_id)
        with torch.no_grad():
            layers = model(torch.tensor([conversation + tokens]), output_hidden_states=True).hidden_states
        chosen = torch.stack([layers[round(depth * (len(layers) - 1))][0] for depth in LAYERS]).float()
        rows.append(torch.cat([chosen[:, len(conversation) :].mean(1), chosen[:, -1]], dim=-1))
    return torch.stack(rows)


def fit(known: Sequence[tuple[Item, torch.Tensor]], penalty: float) -> torch.Tensor:
    """Return the weights of a head fitted to states (responses, width)."""
    rows = torch.stack(list(_differences(known)))
    head = torch.zeros(rows.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS([head], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        value = torch.nn.functional.softplus(-(rows @ head)).mean() + penalty * (head**2).sum()
        value.backward()
        return value

    solver.step(loss)
    return head.detach()


def credits(known: Sequence[tuple[Item, torch.Tensor]], head: torch.Tensor) -> list[float]:
    """Return the head's credit for each item, 0..1; a tie shares it."""
    return [credit((state @ head).tolist(), item.correct).half for item, state in known]


def main() -> None:
    """Print the chosen head and its accuracy on DEV, by source."""
    args = _arguments()
    _, source = default_source(Settings(profile=args.profile))
    from transformers import AutoModelForCausalLM, AutoTokenizer

    files = transformers_path(source)
    tokenizer = AutoTokenizer.from_pretrained(files)
    model = AutoModelForCausalLM.from_pretrained(
        files, dtype=compute_dtype(torch.bfloat16, "cpu")
    ).model.eval()
    by_source = defaultdict[str, list[Item]](list)
    for item in read_items(args.train, None, TrainingCallback()):
        by_source[item.source].append(item)
    chosen = [item for items in by_source.values() for item in subset(items, args.most)]
    train = [(item, states(model, tokenizer, item)) for item in chosen]
    dev = [(item, states(model, tokenizer, item)) for item in read_items(args.dev, None, TrainingCallback())]
    every = torch.cat([state for _, state in train])
    mean, spread = every.mean(0), every.std(0) + 1e-6

    def at(known: Sequence[tuple[Item, torch.Tensor]], layer: int) -> list[tuple[Item, torch.Tensor]]:
        return [(item, ((state - mean) / spread)[:, layer]) for item, state in known]

    held_out, rest = train[::5], [each for i, each in enumerate(train) if i % 5]
    accuracies = {
        (layer, penalty): fmean(credits(at(held_out, layer), fit(at(rest, layer), penalty)))
        for layer, penalty in product(range(len(LAYERS)), PENALTIES)
    }
    layer, penalty = max(accuracies, key=lambda each: accuracies[each])
    print(f"{len(train)} items of {len(by_source)} sources; depth {LAYERS[layer]}, penalty {penalty}")
    print(f"accuracy on the held-out fifth: {accuracies[layer, penalty]:.1%}")
    print("\n".join(_lines(at(dev, layer), fit(at(train, layer), penalty))))


def _lines(dev: Sequence[tuple[Item, torch.Tensor]], head: torch.Tensor) -> Iterator[str]:
    earned, by_source = credits(dev, head), defaultdict[str, list[float]](list)
    for (item, _), each in zip(dev, earned, strict=True):
        by_source[item.source].append(each)
    for name, values in [("dev", earned), *sorted(by_source.items())]:
        interval = bootstrap(values, range(len(values)))
        yield f"{name:>20} {len(values):4} {fmean(values):6.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def _differences(known: Sequence[tuple[Item, torch.Tensor]]) -> Iterator[torch.Tensor]:
    for item, state in known:
        for other in set(range(len(state))) - set(item.correct):
            yield state[item.correct[0]] - state[other]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train")
    parser.add_argument("dev")
    parser.add_argument("--profile", default="smollm2-135m")
    parser.add_argument("--most", type=int, default=300, help="most items of a source (slow on a CPU)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
