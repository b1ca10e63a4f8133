"""Settings of a simulated Ollama: its models and its behavior."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from proxy.simulator import model_names

TEMPLATE = "{{ if .System }}<|system|>{{ .System }}{{ end }}<|user|>{{ .Prompt }}<|assistant|>"
DEFAULT_MODELS = ("llama3.2", "qwen3", "nomic-embed-text", "gpt-oss:120b-cloud")


@dataclass(slots=True)
class Model:
    """A model in the store. `name` is as a user writes it; what is not given is guessed from it by `Model.of`.

    `size` is what it takes on disk, `memory` what it takes once loaded (0 is the same). `remote` is the cloud's name of
    the model for a stub that runs elsewhere, or "". `parameters` are the options that it is run with unless the request
    has others. `info` replaces the ``model_info`` that ``/api/show`` makes up; `tensors` are (name, type, shape).
    """

    name: str
    capabilities: tuple[str, ...] = ("completion", "tools")
    family: str = "llama"
    parameter_size: str = "3.2B"
    quantization: str = "Q4_K_M"
    size: int = 2_019_393_189
    memory: int = 0
    context_length: int = 131_072
    dimensions: int = 768
    system: str = ""
    parent: str = ""
    remote: str = ""
    license: str = "Apache License\nVersion 2.0, January 2004"
    template: str = TEMPLATE
    parameters: dict[str, Any] = field(default_factory=lambda: {"stop": ["<|user|>"]})
    info: dict[str, Any] = field(default_factory=dict)
    tensors: tuple[tuple[str, str, tuple[int, ...]], ...] = ()
    digest: str = ""
    modified_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        # 64 hex digits: the Go CLI slices the digest and panics on a shorter one.
        self.digest = self.digest or hashlib.sha256(self.name.encode()).hexdigest()

    @classmethod
    def of(cls, name: str) -> "Model":
        """Return a model for `name` with the abilities that its name promises."""
        base = model_names.parse(name).model.lower()
        if "embed" in base or "minilm" in base:
            return cls(name, capabilities=("embedding",), family="bert", parameter_size="137M", size=274_302_450)
        sees = ("vision",) if any(part in base for part in ("llava", "vision", "gemma3", "-vl")) else ()
        thinks = any(part in base for part in ("qwen3", "deepseek-r1", "gpt-oss", "thinking"))
        remote = model_names.parse(name).source == "cloud"
        return cls(
            name,
            capabilities=("completion", *sees, "tools", "thinking") if thinks else ("completion", *sees, "tools"),
            family="qwen3" if "qwen" in base else "gptoss" if "gpt-oss" in base else "llama",
            remote=model_names.parse(name).base if remote else "",
            size=384 if remote else 2_019_393_189,
        )


@dataclass(slots=True, kw_only=True)
class Settings:
    """The behavior of the simulator. Times are in seconds; every field may be changed while it runs.

    Args:
        seed: changes every generated text.
        version: what ``/api/version`` says.
        tokens: length of a reply whose request sets no limit; it then ends with ``stop``. A request that sets one
            (``num_predict``, ``max_tokens``, ``max_output_tokens``) gets exactly so many tokens, and ``length``.
        max_tokens: no reply is longer, whatever the request asks for; such a reply ends with ``stop``.
        thinking_tokens: how many tokens a thinking model thinks before it answers.
        call_tools: call the first tool that the request offers, unless the last message is a tool's result.
        tool_tokens: tokens of such a call, which is sent once it is whole: nothing is sent before its last token.
        context: length of the ``context`` array that ends ``/api/generate``; 60 000 is some 300 KB. None is Ollama's:
            as many as the prompt and the reply have tokens.
        load_delay: loading a model.
        prompt_delay: evaluating a prompt, before the first token.
        batch: a prompt is evaluated in batches of so many seconds. A request whose client leaves meanwhile keeps its
            slot to the end of the batch; 0 frees the slot at once.
        token_delay: between two tokens; 0 is as fast as it can.
        embed_delay: one embedding request; a loaded model answers them one at a time.
        chat_embeds: whether models that only chat embed as well, as they did before 0.30.
        num_parallel: ``OLLAMA_NUM_PARALLEL``, requests that one loaded model serves at a time; more wait their turn.
        max_queue: ``OLLAMA_MAX_QUEUE``, requests that may wait for a load; one more is answered 503.
        max_loaded: ``OLLAMA_MAX_LOADED_MODELS``; the least recently used idle model makes room.
        keep_alive: ``OLLAMA_KEEP_ALIVE``; negative is for ever.
        cancel: whether generation notices a closed connection ``at_once`` or at the ``next_token``.
        check_host: refuse unknown Hosts with an empty 403, as Ollama does when it listens on loopback.
        origins: Origins allowed besides Ollama's own list; ``*`` allows all.
        network: whether cloud and registries can be reached.
        signed_in: whether the operator's account is; cloud models answer 401 otherwise.
        cloud: names of the models that the cloud knows; None is every name.
        registry: names that can be pulled and pushed; None is every name without ``missing`` in it.
        pull_layers: layers of a pulled or pushed model.
        pull_steps: progress lines of each of them.
        pull_delay: between two progress lines.
        verify_delay: verifying what was pulled, in silence.
        early_blobs: answer an upload with 200 before its body was read, as for a blob that is already there.
        record: how many requests `Ollama.requests` keeps, with their bodies and what was sent; 0 is none.
        control: serve ``GET /_sim/counters``, which no Ollama has.
    """

    seed: int = 0
    version: str = "0.33.0"
    tokens: int = 24
    max_tokens: int = 100_000
    thinking_tokens: int = 6
    call_tools: bool = True
    tool_tokens: int = 1
    context: int | None = 32
    load_delay: float = 0.0
    prompt_delay: float = 0.0
    batch: float = 0.0
    token_delay: float = 0.0
    embed_delay: float = 0.0
    chat_embeds: bool = False
    num_parallel: int = 1
    max_queue: int = 512
    max_loaded: int = 3
    keep_alive: float = 300.0
    cancel: Literal["at_once", "next_token"] = "at_once"
    check_host: bool = True
    origins: tuple[str, ...] = ()
    network: bool = True
    signed_in: bool = True
    cloud: tuple[str, ...] | None = None
    registry: tuple[str, ...] | None = None
    pull_layers: int = 2
    pull_steps: int = 4
    pull_delay: float = 0.0
    verify_delay: float = 0.0
    early_blobs: bool = False
    record: int = 10_000
    control: bool = False
