"""Training a built-in task's model at first use, and keeping it.

The weights are cached as safetensors under a hash of everything that determines them: the model's
structure, the recipe, the seed, and the data. Two processes that start at once train it once.
Knows nothing of compression.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from compressors.errors import UserError
from compressors.layout import fast_layout
from evaluation.cache import locked, replacing
from evaluation.tasks.samples import Samples

Notify = Callable[[], None]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: AdamW under a one-cycle schedule, labels smoothed."""

    epochs: int
    seed: int = 0
    batch_size: int = 32
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.05

    def __post_init__(self) -> None:
        for rule, value, least in (("epochs", self.epochs, 1), ("seed", self.seed, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(f"{rule} cannot be {value!r}; valid: a whole number from {least}.")


def trained(
    name: str,
    build: Callable[[], nn.Module],
    samples: Samples,
    recipe: Recipe,
    folder: Path,
    threads: int = 1,
) -> nn.Module:
    """The trained model in eval mode, from the cache, or trained now.

    One thread, unless asked: on a loaded machine two threads, which wait for each other at every
    operator, took five times as long as one.
    """
    with _seeded(recipe.seed):
        model = build()
    path = folder / "models" / f"{name}-{_key(model, samples, recipe)}.safetensors"
    if not path.exists():
        with locked(path):
            if not path.exists():
                _train(name, model, samples, recipe, threads)
                with replacing(path) as temporary:
                    save_file(model.state_dict(), temporary)
    model.load_state_dict(load_file(path))
    return model.eval().requires_grad_(True)


def _key(model: nn.Module, samples: Samples, recipe: Recipe) -> str:
    train = samples.ids("train")
    data = hashlib.sha256(samples.inputs[train].numpy().tobytes()).hexdigest()
    facts = json.dumps([str(model), asdict(recipe), train.tolist(), data])
    return hashlib.sha256(facts.encode()).hexdigest()[:12]


def _train(name: str, model: nn.Module, samples: Samples, recipe: Recipe, threads: int) -> None:
    steps = -(-len(samples.ids("train")) // recipe.batch_size) * recipe.epochs
    example = samples.inputs[:1]
    with (
        _threads(threads),
        fast_layout(model, (example,)),
        _seeded(recipe.seed),
        _bar(f"Training {name}, once", steps) as notify,
    ):
        fit(model, samples, recipe, notify)


def fit(model: nn.Module, samples: Samples, recipe: Recipe, notify: Notify) -> None:
    """Train the model in place; `notify` is called after every step."""
    loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    per_epoch = -(-len(samples.ids("train")) // recipe.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=per_epoch * recipe.epochs + 1
    )
    model.train()
    for epoch in range(recipe.epochs):
        seed = recipe.seed * 10_007 + epoch
        for batch in samples.batches("train", recipe.batch_size, seed):
            optimizer.zero_grad()
            loss(model(*batch.args), batch.targets).backward()
            optimizer.step()
            schedule.step()
            notify()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _bar(words: str, steps: int) -> Iterator[Notify]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(words, total=steps)
        yield lambda: progress.advance(task)
