"""A tokenizer of few words, texts of them, and a small llama: what tests of language models share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

WORDS = 24


def tokenizer(folder: Path) -> Path:
    """Save a tokenizer of words w0, w1 ... into a folder; a word it does not know is token 0."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"[UNK]": 0} | {f"w{i}": i for i in range(1, WORDS)}
    found = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    found.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=found, unk_token="[UNK]").save_pretrained(folder)
    return folder


def text(count: int, seed: int = 0) -> str:
    """Return words of which each is often the next one of the one before: something to learn."""
    rng = np.random.default_rng(seed)
    jumps = rng.random(count) < 0.2
    ids = np.cumsum(np.where(jumps, rng.integers(1, WORDS, count), 1)) % (WORDS - 1) + 1
    return " ".join(f"w{i}" for i in ids)


def llama(folder: Path | None = None, *, layers: int = 2, **values: Any) -> Any:
    """Return a llama of random weights with two key and value groups, saved into a folder if one is given."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        **values,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
    if folder is not None:
        model.save_pretrained(folder)
    return model


def learned(folder: Path, **values: Any) -> Any:
    """Return a small llama that has learned `text` a little, saved into a folder with its tokenizer."""
    import torch

    from explorer.data.language import language

    tokenizer(folder)
    model, task = llama(**values), language()
    ids = torch.tensor([int(word[1:]) for word in text(6400, seed=9).split()]).view(-1, 32)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for step in range(100):
            batch = ids[16 * (step % 12) :][:16]
            optimizer.zero_grad()
            task.loss(model(batch, use_cache=False).logits, batch).backward()
            optimizer.step()
    model.eval().save_pretrained(folder)
    return model
