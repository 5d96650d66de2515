"""Writes a tiny Llama as llama.cpp does."""

import json

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, quantize
from transformers import AutoModel, AutoTokenizer

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(base_dir, file, kind=GGMLQuantizationType.F32, architecture="llama", **counts):
    """Write the base in a folder, with its tokenizer, to a GGUF file.

    Args:
        base_dir: A folder with a Llama.
        file: The file.
        kind: How the matrices of the layers are stored.
        architecture: What the file says it is.
        counts: Numbers of the header that are not those of the base.
    """
    base, tokenizer = AutoModel.from_pretrained(base_dir), AutoTokenizer.from_pretrained(base_dir)
    config = base.config
    writer = GGUFWriter(str(file), architecture)
    told = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "vocab_size": config.vocab_size,
    } | counts
    for name, number in told.items():
        writer.add_uint64(f"{architecture}.{name}", number)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    words = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(words["vocab"], key=words["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token == tokenizer.eos_token else 1 for token in tokens])  # 3: control
    writer.add_token_merges([" ".join(merge) for merge in words["merges"]])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    for name, tensor in base.state_dict().items():
        values = tensor.float().numpy()
        if not name.startswith("layers."):
            writer.add_tensor("token_embd.weight" if name.startswith("embed") else "output_norm.weight", values)
            continue
        _, layer, rest = name.split(".", 2)
        part = NAMES[rest.removesuffix(".weight")]
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(part)
        if heads is not None:  # llama.cpp turns pairs of neighbours, transformers the two halves of a head
            values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        if values.ndim == 2 and kind != GGMLQuantizationType.F32:
            writer.add_tensor(f"blk.{layer}.{part}.weight", quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"blk.{layer}.{part}.weight", np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
