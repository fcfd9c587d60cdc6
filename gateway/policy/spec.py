# ruff: noqa: RUF012 (pydantic copies defaults)
"""What a policy file may say: names, types and ranges. Whether names fit together is `compile`'s question.

The descriptions are what editors show (`headgate schema`).
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from gateway.policy.amounts import Tokens
from gateway.policy.drift_spec import DriftSpec, ModelWatchSpec
from gateway.policy.parts import MatchSpec, SecretRef, Spec, TextOrSecret
from gateway.policy.providers import PRESETS
from gateway.policy.quota_spec import AlertsSpec, BudgetSpec, LimitSpec, StoreSpec, TargetLimitsSpec
from gateway.policy.telemetry_spec import TelemetrySpec
from gateway.policy.values import (
    Count,
    Dollars,
    Duration,
    Expiry,
    Family,
    Interval,
    Line,
    ModelName,
    Name,
    Sha256,
    Share,
    Truth,
    no_bool,
    printable,
)

Reason = Literal[
    "connect",
    "timeout",
    "first_token",
    "stall",
    "rate_limited",
    "server_error",
    "auth",
    "bad_answer",
    "context_window",
    "content_filter",
]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[\x20-\x7e]+$")]


class Tls(Spec):
    """TLS to a provider. Without it: the system's certificate authorities, no client certificate."""

    ca_file: Annotated[
        AbsolutePath | None, Field(description="PEM file of the authorities to trust instead.")
    ] = None
    client_cert: Annotated[AbsolutePath | None, Field(description="PEM file of our certificate (mTLS).")] = (
        None
    )
    client_key: Annotated[AbsolutePath | None, Field(description="PEM file of its private key.")] = None
    verify: Annotated[Truth, Field(description="false: accept any certificate. For tests only.")] = True


class ProviderSpec(Spec):
    """A provider: a place that serves models."""

    preset: Annotated[
        str | None,
        WithJsonSchema({"enum": sorted(PRESETS)}),
        Field(
            description="Start from the defaults of this well-known provider. Implied by the provider's name."
        ),
    ] = None
    dialect: Annotated[
        Literal["openai", "anthropic", "azure", "responses", "simulated"] | None,
        Field(
            description="The API it speaks; openai unless its preset says otherwise. anthropic: its Messages "
            "API, responses: OpenAI's Responses API; what callers say in another is translated."
        ),
    ] = None
    base_url: Annotated[
        Line | None, Field(description="Where its API is, up to and with the version: http://vllm:8000/v1")
    ] = None
    resource: Annotated[
        str | None,
        StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,62}$"),
        Field(
            description="Azure only: the resource, instead of base_url (https://RESOURCE.openai.azure.com)."
        ),
    ] = None
    api_version: Annotated[
        str | None,
        StringConstraints(pattern=r"^[0-9a-z-]{1,32}$"),
        Field(description="Azure only: use the dated API (/openai/deployments/…) of this version."),
    ] = None
    api_key: Annotated[SecretRef | None, Field(description="Its API key: {env: NAME} or {file: /path}.")] = (
        None
    )
    api_keys: Annotated[
        list[SecretRef] | None,
        Field(
            min_length=1,
            max_length=64,
            description="Several keys, used in turn; one that is refused is left out for a while.",
        ),
    ] = None
    auth: Annotated[
        Literal["bearer", "api-key", "x-api-key", "none"] | None,
        Field(
            description="How the key is sent: 'Authorization: Bearer', the header 'api-key' or 'x-api-key', "
            "or not at all."
        ),
    ] = None
    responses: Annotated[
        Truth | None,
        Field(
            description="true: it has OpenAI's Responses API beside its dialect, so callers of that are not "
            "translated. Known of openai; many others have it too."
        ),
    ] = None
    stream_options: Annotated[
        Truth | None,
        Field(description="false: its streams carry usage unasked and stream_options is refused."),
    ] = None
    headers: Annotated[
        dict[str, TextOrSecret],
        Field(description="Further headers of every request, as text or {env: NAME}."),
    ] = {}
    tls: Annotated[Tls, Field(description="TLS settings.")] = Tls()
    proxy: Annotated[
        TextOrSecret | None,
        Field(
            description="Egress proxy, http://host:port; one with a password as {env: NAME} or {file: /path}."
        ),
    ] = None
    max_connections: Annotated[
        int, Field(ge=1, le=65_536, description="Connections per worker at most."), BeforeValidator(no_bool)
    ] = 1024
    idle: Annotated[Duration, Field(description="An unused connection is closed after this time.")] = 30.0
    direct: Annotated[
        list[ModelName],
        Field(
            description="Its models that callers may name as 'provider/model' with no entry under models; "
            "teams and keys allow them as any other.",
            max_length=1000,
        ),
    ] = []
    optional: Annotated[
        Truth,
        Field(description="true: without its API key it is left out with a warning, instead of an error."),
    ] = False

    @model_validator(mode="after")
    def _agrees(self) -> ProviderSpec:
        if self.api_key is not None and self.api_keys is not None:
            raise ValueError("api_key and api_keys exclude each other")
        if self.resource is not None and self.base_url is not None:
            raise ValueError("resource and base_url exclude each other")
        return self

    @property
    def secrets(self) -> tuple[SecretRef, ...]:
        """The keys that the file names."""
        return (self.api_key,) if self.api_key is not None else tuple(self.api_keys or ())


def _or_short_form(schema: dict[str, Any]) -> None:
    """JSON Schema of a target: an object, or text."""
    whole = dict(schema)
    schema.clear()
    text = {"type": "string", "pattern": "^[^/]+/.+$", "examples": ["openai/gpt-4o-mini"]}
    schema.update(title=whole["title"], description=whole["description"], anyOf=[text, whole])


class TargetSpec(Spec):
    """A model at a provider. As a short form, the text 'provider/model'."""

    model_config = ConfigDict(json_schema_extra=_or_short_form)

    provider: Annotated[str, Field(description="Name of a provider.")]
    model: Annotated[
        Annotated[str, StringConstraints(min_length=1, max_length=120), AfterValidator(printable)],
        Field(description="The model's name at that provider (Azure: the deployment)."),
    ]
    weight: Annotated[
        Count | None, Field(description="Share of calls under strategy: weighted; 0: only as a fallback.")
    ] = None
    match: Annotated[MatchSpec | None, Field(description="Use this target only for calls that match.")] = None
    limits: Annotated[
        TargetLimitsSpec | None,
        Field(description="What the provider allows, so that it is not asked for more than that."),
    ] = None
    context: Annotated[Tokens | None, Field(description="Its context window, in tokens.")] = None
    max_output: Annotated[Tokens | None, Field(description="The most tokens that one answer may have.")] = (
        None
    )
    reasoning: Annotated[
        Truth | None, Field(description="Whether it reasons; its name decides if this is not given.")
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        provider, slash, model = value.partition("/")
        if not slash or not provider or not model:
            raise ValueError("a target is 'provider/model' or {provider: …, model: …}")
        return {"provider": provider, "model": model}


class Timeouts(Spec):
    """How long a call may take."""

    connect: Annotated[Duration, Field(description="To connect, with TLS.")] = 5.0
    first_token: Annotated[Duration, Field(description="Streams only: until the first content.")] = 60.0
    stall: Annotated[Duration, Field(description="Streams only: between two pieces of content.")] = 120.0
    total: Annotated[Duration, Field(description="For the whole call with all attempts.")] = 600.0


class Retries(Spec):
    """Repeating a failed attempt at the same target."""

    attempts: Annotated[
        int, Field(ge=0, le=10, description="Retries per target."), BeforeValidator(no_bool)
    ] = 2
    budget: Annotated[Share, Field(description="Retries in all, as a share of calls.")] = 0.2
    uncertain: Annotated[
        Truth,
        Field(
            description="true: also after a 504, a 408 or no first token in time, when the provider may "
            "still be at work on the call and bill it twice. Whether the next target is tried is up to "
            "fallback_on alone."
        ),
    ] = False


class Health(Spec):
    """When a target is left out for a while."""

    failures: Annotated[
        int, Field(ge=1, le=1000, description="Failures in a row that eject it."), BeforeValidator(no_bool)
    ] = 5
    eject: Annotated[Duration, Field(description="For how long, the first time.")] = 30.0


DEFAULT_FALLBACK: tuple[Reason, ...] = (
    "connect",
    "timeout",
    "first_token",
    "stall",
    "rate_limited",
    "server_error",
    "auth",
    "bad_answer",
)


class ModelSpec(Spec):
    """A model name that callers use, and what stands behind it."""

    strategy: Annotated[
        Literal["priority", "weighted", "round_robin"],
        Field(
            description="priority: the first, others as fallbacks; weighted: by lot; round_robin: in turn."
        ),
    ] = "priority"
    targets: Annotated[
        list[TargetSpec],
        Field(min_length=1, max_length=64, description="Where calls may go, in order."),
    ]
    fallback_on: Annotated[
        list[Reason], Field(description="Failures after which the next target is tried.")
    ] = list(DEFAULT_FALLBACK)
    timeouts: Timeouts = Timeouts()
    keep_alive: Annotated[
        Interval,
        Field(
            description="Streams only: once an attempt has failed, the caller is sent a comment this often "
            "while it waits for another. Its answer then begins with status 200 and no x-headgate-target, "
            "and a failure is an error event. off: it waits in silence."
        ),
    ] = 15.0
    retries: Retries = Retries()
    health: Health = Health()
    on_unsupported: Annotated[
        Literal["refuse", "drop"],
        Field(
            description="What a caller says and a target's API has no word for. refuse: 400 that names it "
            "(hints and defaults are left out all the same, and named in x-headgate-dropped), and a fallback "
            "that cannot be told is passed over. drop: all of it is left out and named."
        ),
    ] = "refuse"
    drift: Annotated[
        ModelWatchSpec | None, Field(description="How its answers are watched, where not as all others.")
    ] = None

    @model_validator(mode="after")
    def _weights(self) -> ModelSpec:
        if self.strategy == "weighted" and not any(target.weight != 0 for target in self.targets):
            raise ValueError("at least one target needs a weight above 0")
        return self


class TeamSpec(Spec):
    """A team: keys belong to it, and it may use some models."""

    models: Annotated[list[Line], Field(description='Names of models; * and ? are wildcards, ["*"] is all.')]
    pass_through: Annotated[
        list[Family], Field(description="Parts of OpenAI's API that are open to the team, unread.")
    ] = []


class KeySpec(Spec):
    """A caller's key. Only its SHA-256 is written down; 'headgate keys new' makes both."""

    team: Annotated[str, Field(description="Name of a team.")]
    sha256: Annotated[Sha256, Field(description="SHA-256 of the key, in hexadecimal.")]
    expires: Annotated[
        Expiry | None, Field(description="Not valid from this moment on; a date means midnight UTC.")
    ] = None
    models: Annotated[
        list[Line] | None, Field(description="Of the team's models only these; * and ? are wildcards.")
    ] = None
    pass_through: Annotated[
        list[Family] | None, Field(description="Instead of what is open to the team.")
    ] = None


class PriceSpec(Spec):
    """A price in US dollars per million tokens, and what a call costs besides."""

    input: Annotated[Dollars, Field(description="Input tokens, US dollars per million.")]
    cached_input: Annotated[
        Dollars | None, Field(description="Input read from a cache; as input if not given.")
    ] = None
    cache_write: Annotated[
        Dollars | None, Field(description="Input written to a cache; as input if not given.")
    ] = None
    hour_cache_write: Annotated[
        Dollars | None,
        Field(description="Input written to a cache for an hour (Anthropic); as cache_write if not given."),
    ] = None
    audio_input: Annotated[Dollars | None, Field(description="Audio input; as input if not given.")] = None
    output: Annotated[Dollars, Field(description="Output tokens, US dollars per million (0 for embeddings).")]
    reasoning: Annotated[Dollars | None, Field(description="Reasoning output; as output if not given.")] = (
        None
    )
    audio_output: Annotated[Dollars | None, Field(description="Audio output; as output if not given.")] = None
    per_call: Annotated[Dollars, Field(description="US dollars for each call, besides its tokens.")] = (
        Decimal(0)
    )
    per_search: Annotated[Dollars, Field(description="US dollars for each web search of a call.")] = Decimal(
        0
    )


class PassThroughSpec(Spec):
    """A part of OpenAI's API that is handed to one provider as it is: no routing, no retries. A model that a
    call names must be one of its key's; what stands in an uploaded file (a batch's requests) is not read."""

    provider: Annotated[str, Field(description="Name of the provider that gets these calls.")]
    usd_per_call: Annotated[
        Dollars | None,
        Field(description="Price in US dollars of each call that makes something; else its tokens count."),
    ] = None
    timeouts: Timeouts = Timeouts()


class RouteSpec(Spec):
    """A rule that sends calls to another model than they named. The first that matches wins."""

    name: Annotated[Name, Field(description="Its name, in traces.")]
    match: Annotated[MatchSpec, Field(description="Which calls it is for.")]
    use: Annotated[str, Field(description="Name of the model to use instead.")]


class AdminKey(Spec):
    """A key of the admin API."""

    sha256: Annotated[Sha256, Field(description="SHA-256 of the key, in hexadecimal.")]


class AdminSpec(Spec):
    """Who may use the admin API."""

    keys: Annotated[list[AdminKey], Field(description="Keys of the admin API.")] = []


class PolicySpec(Spec):
    """A Headgate policy: all files of a folder together."""

    version: Annotated[Literal[1], Field(description="Version of this format.")] = 1
    providers: Annotated[
        dict[Name, ProviderSpec], Field(description="Where models are served, by name.")
    ] = {}
    models: Annotated[dict[ModelName, ModelSpec], Field(description="The model names callers use.")] = {}
    teams: Annotated[dict[Name, TeamSpec], Field(description="Teams, by name.")] = {}
    keys: Annotated[dict[Name, KeySpec], Field(description="Callers' keys, by name.")] = {}
    prices: Annotated[
        dict[Line, PriceSpec],
        Field(
            description="Own prices in US dollars per million tokens, by 'provider/model'; * and ? are "
            "wildcards, the longest pattern wins. What is not here is looked up in genai-prices."
        ),
    ] = {}
    routes: Annotated[
        list[RouteSpec], Field(description="Rules that change the model of a call, in order.")
    ] = []
    pass_through: Annotated[
        dict[Family, PassThroughSpec],
        Field(
            description="Where the rest of OpenAI's API goes: images, audio, files, batches, … It is open to "
            "nobody until a team or a key names the family too."
        ),
    ] = {}
    limits: Annotated[
        list[LimitSpec],
        Field(
            max_length=1000, description="Calls and tokens per time, and calls at once. All that match hold."
        ),
    ] = []
    budgets: Annotated[
        list[BudgetSpec], Field(max_length=1000, description="US dollars per time. All that match hold.")
    ] = []
    store: Annotated[StoreSpec, Field(description="Where limits and budgets are kept.")] = StoreSpec()
    alerts: Annotated[AlertsSpec | None, Field(description="Who is told of budgets and drift.")] = None
    drift: Annotated[DriftSpec, Field(description="Whether models' answers change.")] = DriftSpec()
    telemetry: Annotated[TelemetrySpec, Field(description="Traces.")] = TelemetrySpec()
    admin: Annotated[AdminSpec, Field(description="The admin API.")] = AdminSpec()

    @model_validator(mode="after")
    def _direct(self) -> PolicySpec:
        for name, provider in self.providers.items():
            for model in provider.direct:
                target = TargetSpec(provider=name, model=model)
                self.models.setdefault(f"{name}/{model}", ModelSpec(targets=[target]))
        return self

    def watches_drift(self) -> bool:
        """Whether any model's answers are watched."""
        return any(
            self.drift.enabled
            if model.drift is None or "enabled" not in model.drift.model_fields_set
            else model.drift.enabled
            for model in self.models.values()
        )


def named_files(spec: PolicySpec) -> frozenset[str]:
    """The files that a policy names: secrets, certificates and their keys."""
    store = [spec.store.redis] + ([] if spec.alerts is None else [spec.alerts.webhook, spec.alerts.secret])
    store.append(spec.drift.privacy.key)
    files: list[str | None] = [text.file for text in store if isinstance(text, SecretRef)]
    for provider in spec.providers.values():
        texts = (*provider.secrets, *provider.headers.values(), provider.proxy)
        files += [text.file for text in texts if isinstance(text, SecretRef)]
        files += [provider.tls.ca_file, provider.tls.client_cert, provider.tls.client_key]
    return frozenset(file for file in files if file is not None)


def fields_at(path: Iterable[str | int], root: type[Spec] = PolicySpec) -> tuple[str, ...]:
    """The keys that may stand at a path of a policy (or of another document); none where names are free."""
    here: Any = root
    for step in path:
        here = _inside(here, step)
    here = _bare(here)
    if not (isinstance(here, type) and issubclass(here, BaseModel)):
        return ()
    return tuple(field.alias or name for name, field in here.model_fields.items())


def _inside(annotation: Any, step: str | int) -> Any:
    annotation = _bare(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(step))
        return None if field is None else field.annotation
    arguments = get_args(annotation)
    return arguments[-1] if get_origin(annotation) in (dict, list) else None


def _bare(annotation: Any) -> Any:
    """An annotation without `| None`."""
    if get_origin(annotation) is UnionType:
        return next(part for part in get_args(annotation) if part is not type(None))
    return annotation
