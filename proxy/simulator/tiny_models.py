"""Models as small as the ones with random weights that a real Ollama was recorded with: see ``tests/recorded``.

``tiny`` completes and calls tools, ``tiny-thinking`` thinks, ``tiny-fim`` fills in the middle and has no chat template;
all three have a context of 512. ``slow`` only completes.
"""

from typing import Any, Final

from proxy.simulator.settings import Model

_CHAT: Final = (
    "{{- if .System }}<|start|>system\n{{ .System }}<|end|>{{ end }}"
    "{{- if .Tools }}<|start|>tools\n{{ .Tools }}<|end|>{{ end }}"
    "{{- range .Messages }}<|start|>{{ .Role }}\n{{ .Content }}"
    '{{- range .ToolCalls }}{"name": "{{ .Function.Name }}", "parameters": {{ .Function.Arguments }}}{{ end }}<|end|>'
    "{{ end }}<|start|>assistant\n"
)
_FILL: Final = (
    "{{- if .Suffix }}<|prefix|>{{ .Prompt }}<|suffix|>{{ .Suffix }}<|middle|>{{ else }}{{ .Prompt }}{{ end }}"
)
_VOCABULARY: Final = 512

_INFO: Final[dict[str, Any]] = {
    "general.architecture": "llama",
    "general.file_type": 1,
    "general.parameter_count": 147_776,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 4,
    "llama.attention.layer_norm_rms_epsilon": 0.00001,
    "llama.block_count": 2,
    "llama.context_length": 2048,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 128,
    "llama.rope.dimension_count": 16,
    "llama.rope.freq_base": 10_000,
    "llama.vocab_size": _VOCABULARY,
    "tokenizer.ggml.add_bos_token": True,
    "tokenizer.ggml.bos_token_id": 506,
    "tokenizer.ggml.eos_token_id": 507,
    "tokenizer.ggml.merges": ["t h", "Ġ a", "r e"],
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "llama-bpe",
    "tokenizer.ggml.token_type": [1] * _VOCABULARY,
    "tokenizer.ggml.tokens": [f"t{number}" for number in range(_VOCABULARY)],
}

_BLOCK: Final = (
    ("attn_norm", "F32", (64,)),
    ("ffn_norm", "F32", (64,)),
    ("attn_q", "F16", (64, 64)),
    ("attn_k", "F16", (64, 64)),
    ("attn_v", "F16", (64, 64)),
    ("attn_output", "F16", (64, 64)),
    ("ffn_gate", "F16", (64, 128)),
    ("ffn_up", "F16", (64, 128)),
    ("ffn_down", "F16", (128, 64)),
)
_TENSORS: Final = (
    ("token_embd.weight", "F16", (64, _VOCABULARY)),
    ("output_norm.weight", "F32", (64,)),
    ("output.weight", "F16", (64, _VOCABULARY)),
    *((f"blk.{block}.{name}.weight", kind, shape) for block in range(2) for name, kind, shape in _BLOCK),
)


def _tiny(name: str, *capabilities: str, size: int, template: str, digest: str) -> Model:
    return Model(
        name,
        capabilities=("completion", *capabilities),
        parameter_size="148K",
        quantization="F16",
        size=size,
        memory=230_686,
        context_length=2048,
        dimensions=64,
        license="",
        template=template,
        digest=digest,
        parameters={"num_ctx": 512},
        info=_INFO,
        tensors=_TENSORS,
    )


TINY_MODELS: Final = (
    _tiny(
        "tiny",
        "tools",
        size=309_538,
        template=_CHAT,
        digest="af6033addc59673fa36c05e00b46eb70ed0a74d059a3f8fd537c0249292d3b67",
    ),
    _tiny(
        "tiny-thinking",
        "thinking",
        size=309_402,
        template=_CHAT,
        digest="177a625b9b3111a0a8a24f256806f44a0bd59f59ffd4071681231f94ad3afe9c",
    ),
    _tiny(
        "tiny-fim",
        "insert",
        size=309_318,
        template=_FILL,
        digest="66389546ae5a92ee15886e03702cbc720882d670a8ecf871175d1acd7dc9523b",
    ),
    Model(
        "slow",
        capabilities=("completion",),
        parameter_size="129.52M",
        quantization="F16",
        size=259_101_654,
        context_length=8192,
        dimensions=1024,
        digest="1398dd9d69035a3981e8c72864364773b03154ce8fa7e0c0180138dcf5ca35b0",
    ),
)
