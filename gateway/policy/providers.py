"""The provider table: what is known of each provider. A new one that speaks a known dialect is one row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Preset:
    """Defaults of a provider. Everything here can be said otherwise in a policy file."""

    base_url: str | None
    """Where its API is, up to and with the version; None: the policy has to say."""
    key_env: str | None = None
    """The environment variable its own tools read the API key from; None: it needs no key."""
    prices: str | None = None
    """Its id in genai-prices; None: prices are looked up by URL."""
    otel_name: str | None = None
    """`gen_ai.provider.name` of OpenTelemetry; None: the provider's name in the policy."""
    auth: str = "bearer"
    """How the key is sent: `bearer` (Authorization), or in the header `api-key` (Azure) or `x-api-key`."""
    dialect: str = "openai"
    headers: Mapping[str, str] = field(default_factory=dict)
    """What it wants in every request, unless the policy says otherwise."""
    responses: bool = False
    """True if it is known to have OpenAI's Responses API beside the one of its dialect."""
    stream_options: bool = True
    """False if it sends usage unasked and refuses `stream_options`."""
    cap_field: str = "max_tokens"
    """The field of a chat call that caps its output and that it is known to heed. What says
    `max_completion_tokens` heeds `max_tokens` as well; Ollama, Mistral and others know only the latter."""


PRESETS: Mapping[str, Preset] = {
    "ai21": Preset("https://api.ai21.com/studio/v1", "AI21_API_KEY", None, "ai21"),
    "anthropic": Preset(
        "https://api.anthropic.com/v1",
        "ANTHROPIC_API_KEY",
        "anthropic",
        "anthropic",
        auth="x-api-key",
        dialect="anthropic",
        # Newer ones answer `temperature` with 400; what is written here is what this one takes.
        headers={"anthropic-version": "2023-06-01"},
    ),
    "azure": Preset(
        None,
        "AZURE_OPENAI_API_KEY",
        "azure",
        "azure.ai.openai",
        auth="api-key",
        dialect="azure",
        cap_field="max_completion_tokens",
    ),
    "cerebras": Preset(
        "https://api.cerebras.ai/v1",
        "CEREBRAS_API_KEY",
        "cerebras",
        "cerebras",
        cap_field="max_completion_tokens",
    ),
    "deepseek": Preset("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", "deepseek", "deepseek"),
    "fireworks": Preset(
        "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY", "fireworks", "fireworks"
    ),
    "groq": Preset(
        "https://api.groq.com/openai/v1", "GROQ_API_KEY", "groq", "groq", cap_field="max_completion_tokens"
    ),
    "huggingface": Preset("https://router.huggingface.co/v1", "HF_TOKEN", "huggingface", "huggingface"),
    "lmstudio": Preset("http://127.0.0.1:1234/v1", otel_name="lmstudio"),
    "mistral": Preset(
        "https://api.mistral.ai/v1", "MISTRAL_API_KEY", "mistral", "mistral_ai", stream_options=False
    ),
    "moonshot": Preset("https://api.moonshot.ai/v1", "MOONSHOT_API_KEY", "moonshotai", "moonshot_ai"),
    "nvidia": Preset("https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY", None, "nvidia"),
    "ollama": Preset("http://127.0.0.1:11434/v1", otel_name="ollama"),
    "openai": Preset(
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        "openai",
        "openai",
        responses=True,
        cap_field="max_completion_tokens",
    ),
    "openrouter": Preset("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "openrouter", "openrouter"),
    "perplexity": Preset("https://api.perplexity.ai", "PERPLEXITY_API_KEY", "perplexity", "perplexity"),
    "simulated": Preset(
        None,
        otel_name="simulated",
        dialect="simulated",
        responses=True,
        cap_field="max_completion_tokens",
    ),
    "tgi": Preset("http://127.0.0.1:3000/v1", otel_name="huggingface"),
    "together": Preset("https://api.together.xyz/v1", "TOGETHER_API_KEY", "together", "together_ai"),
    "vllm": Preset("http://127.0.0.1:8000/v1", otel_name="vllm"),
    "xai": Preset("https://api.x.ai/v1", "XAI_API_KEY", "x-ai", "x_ai", cap_field="max_completion_tokens"),
}
"""By name. A provider that has one of these names, or says `preset:`, starts from its row."""

BY_DIALECT: Mapping[str, str] = {"anthropic": "anthropic", "azure": "azure", "simulated": "simulated"}
"""Dialects that imply a preset whatever the provider is called."""
