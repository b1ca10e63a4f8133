"""Names of models that the proxy derives from others: the same model with another context.

The OpenAI and Anthropic APIs have no place for ``num_ctx``. A request of theirs can have a context only by the name of
a model that has it among its parameters: ``llama3.2:3b-ctx32k-by-proxy`` is ``llama3.2:3b`` with 32768 tokens.
"""

import re
from typing import Final

from proxy.kernel.model_names import ModelName, parse

SUFFIX: Final = "-by-proxy"
"""The end of every derived model's tag, so that nobody takes one for a model of their own."""
_KIBI: Final = 1024
_TAG: Final = re.compile(rf"(.+)-ctx[0-9]+k?{SUFFIX}")


def derived_name(model: ModelName, num_ctx: int) -> str | None:
    """Return the name of `model` with a context of `num_ctx` tokens; None where there can be none.

    A model that is derived itself counts as the one it was derived from, or its name would be a way around the context
    of a policy. There is no name for a cloud model, and where it would be too long for Ollama.
    """
    if model.cloud:
        return None
    size = f"{num_ctx // _KIBI}k" if num_ctx % _KIBI == 0 else str(num_ctx)
    name = f"{underived(model).short}-ctx{size}{SUFFIX}"
    return name if parse(name) is not None else None


def base_of(model: ModelName) -> ModelName | None:
    """Return the model that `model` was derived from by its name; None where it is no derived one."""
    if not model.tag.endswith(SUFFIX) or (found := _TAG.fullmatch(model.tag)) is None:
        return None
    return parse(f"{model.host}/{model.namespace}/{model.model}:{found[1]}")


def underived(model: ModelName) -> ModelName:
    """Return the model that `model` was derived from, or `model` itself."""
    return base_of(model) or model


def base_key(key: str) -> str:
    """Return the canonical key of the model that a key's model was derived from, or `key` itself."""
    if not key.endswith(SUFFIX):
        return key
    model = parse(key)
    return key if model is None else underived(model).key
