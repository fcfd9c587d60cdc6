"""Every way a call can be refused or fail: status, code, whose fault. Rendered once, by the dialect.

`error_type` is a closed list (it is a metric label); its first word says whose fault it was:
caller, policy, provider or gateway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table of errors. `type` and `code` are OpenAI's words where OpenAI has one."""

    error_type: str
    status: int
    type: str
    code: str | None
    message: str
    headers: tuple[tuple[str, str], ...] = ()


class GatewayError(Exception):
    """A call ends here with this answer. Carries no bytes of the caller's or the provider's."""

    __slots__ = ("details", "extra_headers", "kind", "message", "param")

    def __init__(
        self,
        kind: Kind,
        message: str | None = None,
        *,
        param: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(kind.error_type)
        self.kind = kind
        self.message = message or kind.message
        self.param = param
        self.extra_headers = kind.headers + headers
        self.details = details
        """Further fields of the provider's own error object, passed on as they are."""


class CallerGone(Exception):
    """The caller closed its connection. Nothing is answered; the upstream is cancelled."""


_BAD = "invalid_request_error"
_NO_RETRY = (("x-should-retry", "false"),)

UNAUTHORIZED = Kind(
    "caller_unauthorized",
    401,
    _BAD,
    "invalid_api_key",
    "No valid API key. Send a key of this gateway as 'Authorization: Bearer …', 'x-api-key' or 'api-key'.",
    (("www-authenticate", "Bearer"),),
)
KEY_EXPIRED = Kind(
    "caller_key_expired",
    401,
    _BAD,
    "expired_api_key",
    "This API key has expired. Ask the gateway's operator for a new one.",
    (("www-authenticate", "Bearer"),),
)
BAD_JSON = Kind("caller_bad_json", 400, _BAD, None, "The body is not valid JSON in UTF-8.")
BAD_REQUEST = Kind("caller_bad_request", 400, _BAD, None, "The request is not valid.")
WRONG_TYPE = Kind("caller_wrong_type", 400, _BAD, "invalid_type", "A field has the wrong type.")
BELOW_MINIMUM = Kind(
    "caller_below_minimum", 400, _BAD, "integer_below_min_value", "A field is below its minimum."
)
BAD_HTTP = Kind("caller_bad_http", 400, _BAD, None, "The request is not valid HTTP/1.1.")
NOT_FOUND = Kind("caller_unknown_path", 404, _BAD, "unknown_url", "There is nothing at this path.")
BAD_METHOD = Kind(
    "caller_bad_method", 405, _BAD, "method_not_allowed", "This path does not take this method."
)
BAD_FORM = Kind("caller_bad_form", 400, _BAD, None, "The body is not a valid multipart/form-data form.")
BAD_TYPE = Kind(
    "caller_bad_type",
    415,
    _BAD,
    "unsupported_media_type",
    "Send the body as application/json or multipart/form-data.",
)
BODY_TIMEOUT = Kind("caller_timeout", 408, _BAD, "request_timeout", "The request did not arrive in time.")
TOO_LARGE = Kind(
    "caller_too_large", 413, _BAD, "request_too_large", "The body is larger than this gateway takes."
)
COMPRESSED = Kind(
    "caller_compressed", 415, _BAD, "unsupported_encoding", "Send the body without content-encoding."
)
UNSUPPORTED = Kind(
    "caller_unsupported",
    400,
    _BAD,
    "unsupported_parameter",
    "The model's provider cannot be told all that this request says.",
)
HEADERS_TOO_LARGE = Kind(
    "caller_headers_too_large",
    431,
    _BAD,
    "headers_too_large",
    "The headers are larger than this gateway takes.",
)
UPGRADE = Kind("caller_upgrade", 501, _BAD, "not_implemented", "This gateway does not speak WebSocket.")

MODEL_UNKNOWN = Kind(
    "policy_model_unknown", 404, _BAD, "model_not_found", "This gateway has no model of that name."
)
MODEL_FORBIDDEN = Kind(
    "policy_model_forbidden", 403, _BAD, "model_not_allowed", "This API key may not use that model."
)
NO_TARGET = Kind(
    "policy_no_target", 404, _BAD, "model_not_found", "No target of this model takes calls of this kind."
)

NOT_OPEN = Kind(
    "policy_not_open",
    404,
    _BAD,
    "unknown_url",
    "This part of the API is not open to this API key; its operator can name it under pass_through.",
)
OBJECT_UNKNOWN = Kind(
    "policy_object_unknown", 404, _BAD, "not_found", "There is no object of that id, or it is another team's."
)

RATE_LIMITED = Kind(
    "policy_rate_limited", 429, "requests", "rate_limit_exceeded", "A limit of this gateway is reached."
)
TOKENS_LIMITED = replace(RATE_LIMITED, error_type="policy_tokens_limited", type="tokens")
BUDGET_SPENT = Kind(
    "policy_budget_spent",
    429,
    "insufficient_quota",
    "insufficient_quota",
    "A budget of this gateway is spent.",
    _NO_RETRY,
)
BUDGET_HELD = Kind(
    "policy_budget_held",
    429,
    "insufficient_quota",
    "budget_held",
    "What is left of a budget is held by calls under way.",
    (("x-should-retry", "true"),),
)
UNPRICED = Kind(
    "policy_unpriced",
    403,
    _BAD,
    "unpriced_under_budget",
    "This call counts towards a budget, and its price is not known; its operator can give one in the policy.",
)
UNMETERED = Kind(
    "policy_unmetered",
    403,
    _BAD,
    "background_under_budget",
    "This call counts towards a budget or a limit of tokens, and a background response tells only later what"
    " it used; leave out 'background'.",
)
UNBOUNDED = Kind(
    "policy_unbounded",
    400,
    _BAD,
    "unbounded_input",
    "This call counts towards a strict budget or limit, and nothing bounds its input.",
)
STORE_UNAVAILABLE = Kind(
    "gateway_store_unavailable",
    503,
    "service_unavailable_error",
    "store_unavailable",
    "The gateway cannot look up a limit or budget at the moment.",
    (("retry-after", "2"),),
)

UPSTREAM_UNREACHABLE = Kind(
    "provider_unreachable",
    502,
    "api_error",
    "upstream_unreachable",
    "The provider could not be reached.",
    _NO_RETRY,
)
UPSTREAM_AUTH = Kind(
    "provider_auth",
    502,
    "api_error",
    "upstream_auth",
    "The provider refused the gateway's credentials.",
    _NO_RETRY,
)
UPSTREAM_BAD_ANSWER = Kind(
    "provider_bad_answer",
    502,
    "api_error",
    "bad_upstream_response",
    "The provider sent an answer that is not valid.",
    _NO_RETRY,
)
UPSTREAM_LOST = Kind(
    "provider_disconnected",
    502,
    "api_error",
    "upstream_disconnected",
    "The provider closed the connection before its answer was complete.",
    _NO_RETRY,
)
UPSTREAM_ERROR = Kind("provider_error", 502, "api_error", "upstream_error", "The provider failed.", _NO_RETRY)
UPSTREAM_OVERLOADED = Kind(
    "provider_overloaded", 503, "api_error", "upstream_overloaded", "The provider is overloaded."
)
UPSTREAM_TIMEOUT = Kind(
    "provider_timeout",
    504,
    "api_error",
    "upstream_timeout",
    "The provider did not answer in time.",
    _NO_RETRY,
)
UPSTREAM_STALLED = Kind(
    "provider_stalled", 504, "api_error", "upstream_stalled", "The provider stopped in mid-answer.", _NO_RETRY
)
UPSTREAM_RATE_LIMITED = Kind(
    "provider_rate_limited",
    429,
    "rate_limit_error",
    "rate_limit_exceeded",
    "The provider's rate limit is reached.",
)
UPSTREAM_REFUSED = Kind("provider_refused", 400, _BAD, None, "The provider refused the request.")

OVERLOADED = Kind(
    "gateway_overloaded",
    503,
    "service_unavailable_error",
    "overloaded",
    "The gateway is overloaded. Try again shortly.",
    (("retry-after", "1"),),
)
TOO_MANY_CONNECTIONS = replace(
    OVERLOADED,
    error_type="gateway_too_many_connections",
    message="The gateway has too many connections. Try again shortly.",
)
BODIES_FULL = replace(
    OVERLOADED,
    error_type="gateway_bodies_full",
    message="The gateway holds too many requests. Try again shortly.",
)
SHED_FOR: Mapping[Kind, str] = {
    OVERLOADED: "calls",
    TOO_MANY_CONNECTIONS: "connections",
    BODIES_FULL: "body_memory",
}
"""What there is too much of, as the metric label says it."""
NOT_READY = Kind(
    "gateway_not_ready",
    503,
    "service_unavailable_error",
    "not_ready",
    "The gateway has no policy yet. Try again shortly.",
    (("retry-after", "1"),),
)
STOPPING = Kind(
    "gateway_stopping",
    503,
    "service_unavailable_error",
    "stopping",
    "The gateway is stopping. Try again shortly.",
    (("retry-after", "1"),),
)
NO_RECORDS = Kind(
    "gateway_no_records",
    503,
    "service_unavailable_error",
    "records_unavailable",
    "The gateway cannot look up whose stored objects these are. Try again shortly.",
    (("retry-after", "1"),),
)
INTERNAL = Kind(
    "gateway_internal", 500, "api_error", "internal_error", "The gateway failed. Its log says why."
)

ALL_KINDS: tuple[Kind, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Kind))


@dataclass(frozen=True, slots=True)
class ProviderError:
    """A provider's own error, kept so that its words can be passed on.

    `reason` is why the next target may be tried (`FALLBACK_REASONS`), or "" when only the caller can
    mend it. `status` is the provider's.
    """

    status: int
    reason: str
    message: str = field(default="", repr=False)
    type: str | None = None
    code: str | int | None = None
    param: str | None = None
    retry_after_s: float | None = None
    quota: bool = False
    details: dict[str, object] = field(default_factory=dict, repr=False)


FALLBACK_REASONS = (
    "connect",
    "timeout",
    "first_token",
    "stall",
    "rate_limited",
    "server_error",
    "context_window",
    "content_filter",
    "bad_answer",
    "auth",
)
"""Why a call may go to its next target: the closed list of `fallback_on` and of the metric label."""
