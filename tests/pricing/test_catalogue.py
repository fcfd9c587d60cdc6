"""Our tables charge what genai-prices would, for any usage, rounded up."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage as PackageUsage
from genai_prices import calc_price
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.pricing.catalogue import Catalogue, pico_per_token
from gateway.pricing.price import Price
from gateway.usage import KINDS, Usage

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
CATALOGUE = Catalogue()

MODELS = [
    ("openai", "gpt-4o-mini", ""),
    ("openai", "gpt-4o", "priority"),
    ("openai", "gpt-5", "flex"),
    ("openai", "gpt-5", "default"),
    ("openai", "gpt-4o-audio-preview", ""),
    ("openai", "text-embedding-3-small", ""),
    ("azure", "gpt-4o", ""),
    ("google", "gemini-2.5-pro", ""),
    ("anthropic", "claude-sonnet-4-5", ""),
    ("mistral", "mistral-small-latest", ""),
    ("groq", "llama-3.1-8b-instant", ""),
    ("deepseek", "deepseek-chat", ""),
    ("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo", ""),
    ("x-ai", "grok-4", ""),
    ("perplexity", "sonar-deep-research", ""),
    ("openrouter", "google/gemini-2.5-pro", ""),
]
TOKENS = st.integers(0, 5_000) | st.integers(0, 400_000)


@pytest.mark.parametrize(("provider", "model", "tier"), MODELS)
@given(kinds=st.fixed_dictionaries(dict.fromkeys(KINDS, TOKENS)))
@settings(max_examples=60, deadline=None)
def test_cost_is_that_of_the_package_rounded_up(
    provider: str, model: str, tier: str, kinds: dict[str, int]
) -> None:
    table = CATALOGUE.price(provider, None, model, AT)
    assert table is not None
    usage = Usage(**kinds, service_tier=tier)
    ours = Price.from_table(table).cost_nanousd(usage)
    theirs = calc_price(
        PackageUsage(
            input_tokens=usage.total_input,
            cache_read_tokens=usage.cached_input,
            cache_write_tokens=usage.cache_write,
            input_audio_tokens=usage.audio_input,
            cache_audio_read_tokens=0,
            cache_audio_write_tokens=0,
            output_tokens=usage.total_output,
            output_reasoning_tokens=usage.reasoning,
            output_audio_tokens=usage.audio_output,
            output_audio_reasoning_tokens=0,
        ),
        model,
        provider_id=provider,
        genai_request_timestamp=AT,
        price_context={"service_tier": tier} if tier else None,
    )
    # Prices per request (Perplexity) are no price of a token.
    per_request = (theirs.model_price.requests_kcount or Decimal(0)) / 1000
    exact = (theirs.total_price - per_request) * 1_000_000_000
    assert exact <= ours < exact + len(KINDS) + Decimal(usage.total_input + usage.total_output) / 1000


def test_long_input_reprices_the_whole_call() -> None:
    table = CATALOGUE.price("google", None, "gemini-2.5-pro", AT)
    assert table is not None
    assert [start for start, _ in table["standard"]] == [0, 200_000]
    price = Price.from_table(table)
    at_limit, above = (price.cost_nanousd(Usage(input=count)) for count in (200_000, 200_001))
    assert above > at_limit * 1.9


def test_tiers_hold_from_their_date_on() -> None:
    before, after = (
        CATALOGUE.price("openai", None, "gpt-4o", datetime(2026, month, 1, tzinfo=UTC)) for month in (10, 11)
    )
    assert before is not None
    assert after is not None
    assert "priority" not in before
    assert after["priority"][0][1]["input"] == 4_250_000
    assert CATALOGUE.next_change("openai", None, "gpt-4o", datetime(2026, 10, 1, tzinfo=UTC)) == datetime(
        2026, 10, 12, tzinfo=UTC
    )


def test_price_of_the_hour() -> None:
    day, night = (
        CATALOGUE.price("deepseek", None, "deepseek-chat", datetime(2026, 11, 20, hour, tzinfo=UTC))
        for hour in (12, 20)
    )
    assert day is not None
    assert night is not None
    assert day["standard"][0][1]["input"] == 2 * night["standard"][0][1]["input"]
    late = datetime(2026, 11, 20, 20, tzinfo=UTC)
    assert CATALOGUE.next_change("deepseek", None, "deepseek-chat", late) == datetime(
        2026, 11, 21, 0, 30, tzinfo=UTC
    )


def test_provider_is_found_by_its_url() -> None:
    by_name = CATALOGUE.price("groq", None, "llama-3.1-8b-instant", AT)
    assert (
        by_name
        == CATALOGUE.price(None, "https://api.groq.com/openai/v1", "llama-3.1-8b-instant", AT)
        is not None
    )


def test_router_of_hugging_face_is_priced_by_who_serves() -> None:
    assert CATALOGUE.price("huggingface", None, "meta-llama/Llama-3.3-70B-Instruct:groq", AT) is not None
    assert CATALOGUE.price("huggingface", None, "meta-llama/Llama-3.3-70B-Instruct", AT) is None


@pytest.mark.parametrize(
    ("provider_id", "url", "model"),
    [
        ("openai", None, "no-such-model"),
        ("no-such-provider", None, "gpt-4o"),
        (None, "http://vllm:8000/v1", "gpt-4o"),
        (None, None, "gpt-4o"),
        ("openai", None, "tts-1"),
    ],
)
def test_what_is_not_known_or_not_by_the_token_has_no_price(
    provider_id: str | None, url: str | None, model: str
) -> None:
    assert CATALOGUE.price(provider_id, url, model, AT) is None
    assert CATALOGUE.next_change(provider_id, url, "no-such-model", AT) is None


@pytest.mark.parametrize(
    ("usd", "pico"), [("0.15", 150_000), ("0", 0), ("0.0000001", 1), ("2.5000001", 2_500_001)]
)
def test_pico_dollars_round_up(usd: str, pico: int) -> None:
    assert pico_per_token(Decimal(usd)) == pico


def test_fees_by_the_call_and_by_the_search_are_in_the_table() -> None:
    def fees(provider: str, model: str) -> object:
        return (CATALOGUE.price(provider, None, model, AT) or {}).get("fees")

    # 12 dollars for a thousand calls; 10 for a thousand searches.
    assert fees("perplexity", "sonar") == {"call": 12_000_000}
    assert fees("openai", "gpt-4o") == {"search": 10_000_000}
    assert fees("openai", "gpt-4o-mini-search-preview") == {"call": 10_000_000}
    assert fees("groq", "llama-3.1-8b-instant") is None


def test_context_window_as_published() -> None:
    assert CATALOGUE.context_window("openai", None, "gpt-4o-mini") == 128_000
    assert CATALOGUE.context_window("openai", None, "no-such-model") is None
    assert CATALOGUE.context_window(None, None, "gpt-4o-mini") is None


def test_what_anthropic_answers_in_the_us_alone_costs_a_tenth_more() -> None:
    table = CATALOGUE.price("anthropic", None, "claude-sonnet-4-5", datetime(2026, 11, 20, tzinfo=UTC))
    assert table is not None
    assert [start for start, _ in table["us"]] == [start for start, _ in table["standard"]]
    for (_, ours), (_, standard) in zip(table["us"], table["standard"], strict=True):
        assert {kind: 10 * pico for kind, pico in ours.items()} == {
            kind: 11 * pico for kind, pico in standard.items()
        }
    price = Price.from_table(table)
    usage = Usage(input=1_000, output=1_000, service_tier="us")
    for pinned in ("", "default", "flex"):
        assert price.cost_nanousd(usage) <= price.worst(1_000, service_tier=pinned).nanousd(1_000, 1_000)
    assert price.cost_nanousd(usage) > price.cost_nanousd(Usage(input=1_000, output=1_000))


def test_nobody_else_has_that_tier() -> None:
    table = CATALOGUE.price("openai", None, "gpt-4o", datetime(2026, 11, 20, tzinfo=UTC))
    assert table is not None
    assert "us" not in table
