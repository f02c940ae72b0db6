"""A Llama checkpoint in Hugging Face's form, such as models/demo, as a GGUF file that llama.cpp serves.

    python tests/peer/to_gguf.py models/demo demo.gguf

`make test-server` calls it. Takes what the demonstration models are and refuses the rest: one safetensors file of
bf16 or f32, tied embeddings, plain rotation, byte-level BPE with GPT-2's splitting. Needs `pip install gguf`.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np

# Hugging Face's names in a block -> llama.cpp's.
BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tensors(path):
    """Each tensor of a safetensors file, by name, as float32."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__":
            continue
        begin, end = (start + offset for offset in entry["data_offsets"])
        if entry["dtype"] == "BF16":  # the upper half of a float32
            values = (np.frombuffer(data[begin:end], "<u2").astype("<u4") << 16).view("<f4")
        elif entry["dtype"] == "F32":
            values = np.frombuffer(data[begin:end], "<f4")
        else:
            sys.exit(f"{path}: {name} is {entry['dtype']}, not BF16 or F32")
        yield name, values.reshape(entry["shape"])


def interleaved(weight, heads):
    """Rows of a query or key projection as llama.cpp rotates them: it turns neighbouring dimensions of a head
    together, where Hugging Face turns dimension i with i + d_head / 2."""
    halves = weight.reshape(heads, 2, -1, weight.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weight.shape)


def renamed(name):
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, block, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{block}.{BLOCK[part]}.weight"


def main(folder, out):
    read = lambda name: json.loads((folder / name).read_text())
    config, tokenizer, chat = read("config.json"), read("tokenizer.json"), read("tokenizer_config.json")
    bpe = tokenizer["model"]
    if config["model_type"] != "llama" or config["rope_scaling"] or not config["tie_word_embeddings"]:
        sys.exit(f"{folder}: not a Llama with plain rotation and tied embeddings")
    if bpe["type"] != "BPE" or tokenizer["pre_tokenizer"]["type"] != "ByteLevel" or tokenizer["normalizer"]:
        sys.exit(f"{folder}: not byte-level BPE")

    writer = gguf.GGUFWriter(out, "llama")
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer.add_name(folder.name)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])

    special = {token["id"] for token in tokenizer["added_tokens"] if token["special"]}
    vocabulary = sorted(bpe["vocab"], key=bpe["vocab"].get)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in bpe["merges"]]
    kind = lambda id: gguf.TokenType.CONTROL if id in special else gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([kind(id) for id in range(len(vocabulary))])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(True)
    writer.add_chat_template(chat["chat_template"])

    for name, weight in tensors(folder / "model.safetensors"):
        if name.endswith("q_proj.weight"):
            weight = interleaved(weight, heads)
        elif name.endswith("k_proj.weight"):
            weight = interleaved(weight, kv_heads)
        writer.add_tensor(renamed(name), weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2])
