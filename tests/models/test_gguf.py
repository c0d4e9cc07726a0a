"""GGUF files: weights, tokenizer and identity of a language model in one file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from explorer.data.text import tokenizer_of
from explorer.models import transformers
from explorer.runs.identity import own_weights
from explorer.utils import gguf as files
from spaces import PruningError
from tests.support import foreign
from tests.support.language import llama

pytestmark = pytest.mark.skipif(foreign.missing("transformers"), reason="no transformers")
# as torchvision asks for when transformers imports it
OPERATORS = foreign.declare_operators()

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.layers": "blk",
}


def write(path: Path) -> dict[str, Tensor]:
    """Write a small llama of random weights, and return these."""
    gguf = pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    model = llama()
    config, writer = model.config, gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*(chr(97 + number) for number in range(config.vocab_size - 1)), "ab"])
    writer.add_token_merges(["a b"])
    writer.add_unk_token_id(0)
    for name, tensor in model.state_dict().items():
        short = name
        for ours, theirs in _NAMES.items():
            short = short.replace(ours, theirs)
        values = tensor.numpy()
        if "attn_q" in short or "attn_k" in short:
            # llama.cpp has the halves of a head's rotation side by side
            heads = config.num_key_value_heads if "attn_k" in short else config.num_attention_heads
            values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape).copy()
        writer.add_tensor(short, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return dict(model.state_dict())


def test_a_file_is_model_and_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    state = write(path)
    model = transformers(architecture=str(path), task="causal-lm", pretrained=True)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    # as of any file: not quantised, and ready to be saved
    model.save_pretrained(tmp_path / "folder")
    assert not model.training
    fresh = transformers(architecture=str(path), task="causal-lm")
    assert {name: value.shape for name, value in fresh.state_dict().items()} == {
        name: value.shape for name, value in state.items()
    }
    assert tokenizer_of(str(path))("cbd", add_special_tokens=False)["input_ids"] == [2, 1, 3]


def test_a_file_decides_what_a_run_is(tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    path.write_bytes(b"one")
    assert own_weights({"architecture": str(path)}) == [path]
    assert own_weights({"architecture": str(tmp_path / "none.gguf")}) == []


@pytest.mark.parametrize("missing", ["gguf", "accelerate"])
def test_what_reads_them_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    path = tmp_path / "small.gguf"
    path.write_bytes(b"")
    monkeypatch.setattr(files, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(PruningError, match=f"^model.architecture: a GGUF file needs {missing}, pip install {missing}$"):
        transformers(architecture=str(path), task="causal-lm")
    with pytest.raises(PruningError, match=f"^data.tokenizer: a GGUF file needs {missing}"):
        tokenizer_of(str(path))


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    path = str(tmp_path / "none.gguf")
    with pytest.raises(PruningError, match=r"^model.architecture: '.*none.gguf', there is no such file$"):
        transformers(architecture=path, task="causal-lm")
    with pytest.raises(PruningError, match=r"^data.tokenizer: '.*none.gguf', there is no such file$"):
        tokenizer_of(path)


def test_a_file_that_is_none_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    path = tmp_path / "small.gguf"
    path.write_bytes(b"nothing")
    with pytest.raises(PruningError, match="can't be read") as caught:
        transformers(architecture=str(path), task="causal-lm", pretrained=True)
    assert "\n" not in str(caught.value)
