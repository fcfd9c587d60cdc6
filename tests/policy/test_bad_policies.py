# ruff: noqa: E501 (tables read best with a row on a line)
"""One row for each way a policy can be wrong: where the error points, and what it says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.policy.compile import Compiled
from gateway.policy.load import load_text
from gateway.policy.problem import PolicyError, Problem

SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
SECRET = "sk-proj-Zq8VxT3mW7"
ENVIRON = {"GOOD_KEY": "sk-good", "TWO_LINES": "sk-a\r\nX-Evil: 1", "NUMBER": "12", "PASTED": SECRET}

# (id, text, line:column, key path, part of the message)
FILES = [
    ("not a mapping", "- a\n", "1:1", "", "'name: value' pairs"),
    ("just text", "hello\n", "1:1", "", "'name: value' pairs"),
    ("unclosed list", "models: [a\nteams: {}\n", "2:6", "", "not valid YAML"),
    ("bad indentation", "teams:\n  a: {models: []}\n c: 1\n", "3:2", "", "not valid YAML"),
    ("tab in the indentation", "teams:\n\ta: {models: []}\n", "2:1", "", "tab"),
    ("tab after spaces", "teams:\n  \ta: {models: []}\n", "2:3", "", "tab"),
    ("control character", "teams: {a: \x01}\n", "0:0", "", "not valid YAML"),
    ("alias", "teams: *x\n", "1:8", "", "anchors and aliases"),
    ("anchor", "teams: &x {}\n", "1:8", "", "anchors and aliases"),
    ("anchor on a value", "version: &x 1\n", "1:10", "", "anchors and aliases"),
    ("tag", "version: !!int 1\n", "1:10", "", "tags"),
    ("python tag", "teams: !!python/object/apply:os.system [ls]\n", "1:8", "", "tags"),
    ("merge key", "teams:\n  <<: {a: {models: []}}\n", "2:3", "", "merge keys"),
    ("second document", "version: 1\n---\nversion: 1\n", "2:1", "", "second document"),
    ("duplicate key", "version: 1\nteams: {}\nversion: 1\n", "3:1", "", "given twice; first on line 1"),
    (
        "duplicate name",
        "teams:\n  a: {models: []}\n  a: {models: []}\n",
        "3:3",
        "",
        "given twice; first on line 2",
    ),
    ("list as key", "teams: {[a]: 1}\n", "1:9", "", "a key must be plain text"),
    ("too deep", "teams: " + "[" * 40 + "]" * 40, "1:40", "", "nested deeper"),
    ("lone start of a variable", "version: ${\n", "1:10", "version", "$$ for a dollar sign"),
    ("bad name of a variable", "version: ${1X}\n", "1:10", "version", "$$ for a dollar sign"),
    ("variable without quotes in braces", "teams: {a: {models: [${M}]}}\n", "1:23", "", "in quotes"),
    (
        "unset variable",
        "teams:\n  a:\n    models: ['${NOT_SET}']\n",
        "3:14",
        "teams.a.models[0]",
        "NOT_SET is not set",
    ),
]

SPECS = [
    ("unknown section", "modles: {}\n", "1:1", "modles", "unknown key (did you mean 'models'?)"),
    ("unknown key", "providers:\n  x:\n    base_ulr: http://h\n", "3:5", "providers.x.base_ulr", "(did you mean 'base_url'?)"),
    ("unknown key, nothing close", "providers: {x: {zzz: 1}}\n", "1:17", "providers.x.zzz", "unknown key"),
    ("when is not there yet", "models: {m: {targets: [{provider: p, model: m, when: a}]}}\n", "1:48", "models.m.targets[0].when", "unknown key"),
    ("unknown key of a match", "models: {m: {targets: [{provider: p, model: m, match: {taem: a}}]}}\n", "1:56", "models.m.targets[0].match.taem", "(did you mean 'team'?)"),
    ("version 2", "version: 2\n", "1:10", "version", "must be 1"),
    ("version on", "version: on\n", "1:10", "version", "must be 1"),
    ("section of the wrong form", "providers: [a]\n", "1:1", "providers", "must be a mapping"),
    ("routes as a mapping", "routes: {a: 1}\n", "1:1", "routes", "must be a list"),
    ("bad name", "teams:\n  'a b': {models: []}\n", "2:3", "teams.a b", "a name is 1 to 64"),
    ("reserved name", "teams: {_other: {models: []}}\n", "1:9", "teams._other", "begins with a letter"),
    ("bad name of a model", "models:\n  'a b': {targets: [x/y]}\n", "2:3", "models.a b", "a model name is"),
    ("team without models", "teams:\n  a: {}\n", "2:3", "teams.a.models", "is missing"),
    ("model without targets", "models: {m: {strategy: priority}}\n", "1:10", "models.m.targets", "is missing"),
    ("no targets", "models: {m: {targets: []}}\n", "1:14", "models.m.targets", "at least 1 item"),
    ("target without slash", "models: {m: {targets: [abc]}}\n", "1:24", "models.m.targets[0]", "'provider/model'"),
    ("target without a model", "models: {m: {targets: [abc/]}}\n", "1:24", "models.m.targets[0]", "'provider/model'"),
    ("target is a number", "models: {m: {targets: [1]}}\n", "1:24", "models.m.targets[0]", "must be"),
    ("strategy", "models: {m: {targets: [a/b], strategy: prio}}\n", "1:40", "models.m.strategy", "must be one of priority, weighted"),
    ("fallback reason", "models: {m: {targets: [a/b], fallback_on: [timeot]}}\n", "1:44", "models.m.fallback_on[0]", "(did you mean 'timeout'?)"),
    ("negative weight", "models: {m: {targets: [{provider: a, model: b, weight: -1}]}}\n", "1:56", "models.m.targets[0].weight", "greater than or equal to 0"),
    ("weight is a word", "models: {m: {targets: [{provider: a, model: b, weight: x}]}}\n", "1:56", "models.m.targets[0].weight", "must be a valid integer"),
    ("weight is true", "models: {m: {targets: [{provider: a, model: b, weight: true}]}}\n", "1:56", "models.m.targets[0].weight", "must be a number"),
    ("all weights 0", "models: {m: {strategy: weighted, targets: [{provider: a, model: b, weight: 0}]}}\n", "1:10", "models.m", "a weight above 0"),
    ("duration", "models: {m: {targets: [a/b], timeouts: {connect: 5 sec}}}\n", "1:50", "models.m.timeouts.connect", "a duration"),
    ("duration of nothing", "models: {m: {targets: [a/b], timeouts: {total: 0s}}}\n", "1:48", "models.m.timeouts.total", "a duration"),
    ("endless duration", "models: {m: {targets: [a/b], timeouts: {total: 99h}}}\n", "1:48", "models.m.timeouts.total", "a duration"),
    ("interval", "models: {m: {targets: [a/b], keep_alive: never}}\n", "1:42", "models.m.keep_alive", "like \"15s\", or off"),
    ("share above 1", "models: {m: {targets: [a/b], retries: {budget: 120%}}}\n", "1:48", "models.m.retries.budget", "a percentage"),
    ("share is a word", "models: {m: {targets: [a/b], retries: {budget: much}}}\n", "1:48", "models.m.retries.budget", "a percentage"),
    ("share is nan", "models: {m: {targets: [a/b], retries: {budget: nan}}}\n", "1:48", "models.m.retries.budget", "a percentage"),
    ("too many retries", "models: {m: {targets: [a/b], retries: {attempts: 99}}}\n", "1:50", "models.m.retries.attempts", "less than or equal to 10"),
    ("yes is not true", "providers: {p: {optional: yes}}\n", "1:27", "providers.p.optional", "must be true or false"),
    ("off is not false", "models: {m: {targets: [{provider: a, model: b, match: {stream: off}}]}}\n", "1:64", "models.m.targets[0].match.stream", "true or false"),
    ("secret as text", f"providers:\n  p: {{api_key: {SECRET}}}\n", "2:16", "providers.p.api_key", "never stands in a policy file"),
    ("secret by expansion", "providers: {p: {api_key: '${PASTED}'}}\n", "1:26", "providers.p.api_key", "never stands in a policy file"),
    ("secret as a set", f"providers: {{p: {{api_key: {{{SECRET}}}}}}}\n", "1:17", "providers.p.api_key", "either {env: NAME}"),
    ("secret as a variable's name", f"providers: {{p: {{api_key: {{env: {SECRET}}}}}}}\n", "1:17", "providers.p.api_key", "upper-case"),
    ("env and file", "providers: {p: {api_key: {env: A, file: /a}}}\n", "1:17", "providers.p.api_key", "either {env: NAME}"),
    ("relative secret file", "providers: {p: {api_key: {file: key.txt}}}\n", "1:17", "providers.p.api_key", "absolute path"),
    ("secret in a list as text", f"providers: {{p: {{api_keys: [{SECRET}]}}}}\n", "1:28", "providers.p.api_keys[0]", "never stands"),
    ("key and keys", "providers: {p: {api_key: {env: A}, api_keys: [{env: B}]}}\n", "1:13", "providers.p", "exclude each other"),
    ("resource and URL", "providers: {p: {resource: a, base_url: http://h}}\n", "1:13", "providers.p", "exclude each other"),
    ("dialect", "providers: {p: {dialect: opnai}}\n", "1:26", "providers.p.dialect", "(did you mean 'openai'?)"),
    ("port as URL", "providers: {p: {base_url: 8000}}\n", "1:27", "providers.p.base_url", "must be text"),
    ("relative CA file", "providers: {p: {tls: {ca_file: ca.pem}}}\n", "1:32", "providers.p.tls.ca_file", "pattern"),
    ("no connections", "providers: {p: {max_connections: 0}}\n", "1:34", "providers.p.max_connections", "greater than or equal to 1"),
    ("short hash", "keys: {k: {team: t, sha256: abc}}\n", "1:29", "keys.k.sha256", "64 hexadecimal digits"),
    ("key without a team", f"keys: {{k: {{sha256: {SHA}}}}}\n", "1:8", "keys.k.team", "is missing"),
    ("expiry", f"keys: {{k: {{team: t, sha256: {SHA}, expires: soon}}}}\n", "1:104", "keys.k.expires", "a date"),
    ("impossible date", f"keys: {{k: {{team: t, sha256: {SHA}, expires: 2027-02-30}}}}\n", "1:104", "keys.k.expires", "a date"),
    ("price without output", "prices: {a/b: {input: 1}}\n", "1:10", "prices.a/b.output", "is missing"),
    ("negative price", "prices: {a/b: {input: -1, output: 1}}\n", "1:23", "prices.a/b.input", "greater than or equal to 0"),
    ("endless price", "prices: {a/b: {input: .inf, output: 1}}\n", "1:23", "prices.a/b.input", "decimal"),
    ("price with a unit", "prices: {a/b: {input: $1, output: 1}}\n", "1:23", "prices.a/b.input", "decimal"),
    ("route without a name", "routes: [{match: {}, use: m}]\n", "1:10", "routes[0].name", "is missing"),
    ("endpoint", "routes: [{name: r, match: {endpoint: caht}, use: m}]\n", "1:38", "routes[0].match.endpoint", "(did you mean 'chat'?)"),
    ("team that is a number", "routes: [{name: r, match: {team: 5}, use: m}]\n", "1:34", "routes[0].match.team", "must be text"),
    ("admin key as text", f"admin: {{keys: [{SHA}]}}\n", "1:16", "admin.keys[0]", "must be a mapping"),
]  # fmt: skip

PROVIDER = "providers: {p: {base_url: 'http://h/v1'}}\n"
NAMES = [
    ("unknown provider", PROVIDER + "models: {m: {targets: [q/x]}}\n", "2:24", "models.m.targets[0].provider", "there is no provider 'q'"),
    ("close provider", "providers: {local: {base_url: 'http://h'}}\nmodels: {m: {targets: [{provider: locl, model: x}]}}\n", "2:35", "models.m.targets[0].provider", "(did you mean 'local'?)"),
    ("target twice", PROVIDER + "models: {m: {targets: [p/x, p/x]}}\n", "2:29", "models.m.targets[1]", "listed twice"),
    ("long name", PROVIDER + "models: {m: {targets: ['p/" + "é" * 110 + "']}}\n", "2:24", "models.m.targets[0].model", "longer than 192"),
    ("unknown model of a team", PROVIDER + "models: {fast: {targets: [p/x]}}\nteams: {t: {models: [fats]}}\n", "3:22", "teams.t.models[0]", "(did you mean 'fast'?)"),
    ("unknown model of a key", PROVIDER + f"models: {{m: {{targets: [p/x]}}}}\nteams: {{t: {{models: [m]}}}}\nkeys: {{k: {{team: t, models: [n], sha256: {SHA}}}}}\n", "4:30", "keys.k.models[0]", "there is no model 'n'"),
    ("unknown team", PROVIDER + f"teams: {{search: {{models: []}}}}\nkeys: {{k: {{team: serach, sha256: {SHA}}}}}\n", "3:18", "keys.k.team", "(did you mean 'search'?)"),
    ("one hash twice", f"teams: {{t: {{models: []}}}}\nkeys:\n  a: {{team: t, sha256: {SHA}}}\n  b: {{team: t, sha256: {SHA.upper()}}}\n", "4:24", "keys.b.sha256", "the same as that of the key 'a'"),
    ("route to nowhere", "routes: [{name: r, match: {}, use: m}]\n", "1:36", "routes[0].use", "there is no model 'm'"),
    ("route of no team", PROVIDER + "models: {m: {targets: [p/x]}}\nroutes: [{name: r, match: {team: t}, use: m}]\n", "3:34", "routes[0].match.team", "there is no team 't'"),
    ("target of no key", PROVIDER + "models: {m: {targets: [{provider: p, model: x, match: {key: k}}]}}\n", "2:61", "models.m.targets[0].match.key", "there is no key 'k'"),
    ("two routes of one name", PROVIDER + "models: {m: {targets: [p/x]}}\nroutes: [{name: r, match: {}, use: m}, {name: r, match: {}, use: m}]\n", "3:47", "routes[1].name", "two routes"),
    ("price of no provider", PROVIDER + "prices: {q/x: {input: 1, output: 1}}\n", "2:10", "prices.q/x", "there is no provider 'q'"),
    ("price without a provider", "prices: {x: {input: 1, output: 1}}\n", "1:10", "prices.x", "must be 'provider/model'"),
    ("preset", "providers: {p: {preset: grok}}\n", "1:25", "providers.p.preset", "(did you mean 'groq'?)"),
    ("no URL", "providers: {p: {}}\n", "1:13", "providers.p", "base_url is missing"),
    ("no resource", "providers: {azure: {api_key: {env: GOOD_KEY}}}\n", "1:13", "providers.azure", "resource or base_url is missing"),
    ("preset's key not set", "providers: {groq: {}}\n", "1:13", "providers.groq.api_key", "GROQ_API_KEY is not set"),
    ("key not set", "providers: {p: {base_url: 'http://h', api_key: {env: NO_SUCH_KEY}}}\n", "1:39", "providers.p.api_key", "NO_SUCH_KEY is not set"),
    ("one of the keys not set", "providers: {p: {base_url: 'http://h', api_keys: [{env: GOOD_KEY}, {env: NO_SUCH_KEY}]}}\n", "1:67", "providers.p.api_keys[1]", "NO_SUCH_KEY is not set"),
    ("no such secret file", "providers: {p: {base_url: 'http://h', api_key: {file: /no/such/file}}}\n", "1:39", "providers.p.api_key", "/no/such/file cannot be read"),
    ("key of two lines", "providers: {p: {base_url: 'http://h', api_key: {env: TWO_LINES}}}\n", "1:39", "providers.p.api_key", "one line of printable ASCII"),
    ("auth without a key", "providers: {p: {base_url: 'http://h', auth: bearer}}\n", "1:45", "providers.p.auth", "needs an api_key"),
    ("key without auth", "providers: {p: {base_url: 'http://h', auth: none, api_key: {env: GOOD_KEY}}}\n", "1:45", "providers.p.auth", "remove one"),
    ("not a URL", "providers: {p: {base_url: localhost:8000}}\n", "1:27", "providers.p.base_url", "begins with http://"),
    ("ftp", "providers: {p: {base_url: 'ftp://h/v1'}}\n", "1:27", "providers.p.base_url", "begins with http://"),
    ("URL with a password", f"providers: {{p: {{base_url: 'https://u:{SECRET}@h/v1'}}}}\n", "1:27", "providers.p.base_url", "user or password"),
    ("URL with a query", f"providers: {{p: {{base_url: 'https://h/v1?key={SECRET}'}}}}\n", "1:27", "providers.p.base_url", "query"),
    ("URL with a space", "providers: {p: {base_url: 'https://h/a b'}}\n", "1:27", "providers.p.base_url", "without spaces"),
    ("URL with a bad port", "providers: {p: {base_url: 'https://h:99999'}}\n", "1:27", "providers.p.base_url", "must be a URL"),
    ("URL with port 0", "providers: {p: {base_url: 'https://h:0'}}\n", "1:27", "providers.p.base_url", "port"),
    ("URL with a bad host", "providers: {p: {base_url: 'https://a..b/v1'}}\n", "1:27", "providers.p.base_url", "host name"),
    ("header name", "providers: {p: {base_url: 'http://h', headers: {'a b': c}}}\n", "1:56", "providers.p.headers.a b", "not a name of a header"),
    ("header that frames", "providers: {p: {base_url: 'http://h', headers: {Transfer-Encoding: chunked}}}\n", "1:68", "providers.p.headers.Transfer-Encoding", "set by the gateway"),
    ("header twice", "providers: {p: {base_url: 'http://h', headers: {X-A: b, x-a: c}}}\n", "1:62", "providers.p.headers.x-a", "given twice"),
    ("header injection", "providers: {p: {base_url: 'http://h', headers: {x: {env: TWO_LINES}}}}\n", "1:49", "providers.p.headers.x", "one line of printable ASCII"),
    ("header not ASCII", "providers: {p: {base_url: 'http://h', headers: {x: é}}}\n", "1:52", "providers.p.headers.x", "one line of printable ASCII"),
    ("credentials in a header", f"providers: {{p: {{base_url: 'http://h', headers: {{Authorization: Bearer {SECRET}}}}}}}\n", "1:64", "providers.p.headers.Authorization", "is a secret"),
    ("proxy with a password", f"providers: {{p: {{base_url: 'http://h', proxy: 'http://u:{SECRET}@h:3128'}}}}\n", "1:46", "providers.p.proxy", "user or password"),
    ("proxy with https", "providers: {p: {base_url: 'http://h', proxy: 'https://h:3128'}}\n", "1:46", "providers.p.proxy", "http://host:port"),
    ("proxy not set", "providers: {p: {base_url: 'http://h', proxy: {env: NO_SUCH_PROXY}}}\n", "1:39", "providers.p.proxy", "NO_SUCH_PROXY is not set"),
    ("proxy that is no URL", "providers: {p: {base_url: 'http://h', proxy: {env: PASTED}}}\n", "1:39", "providers.p.proxy", "begins with http://"),
    ("header not set", "providers: {p: {base_url: 'http://h', headers: {x: {env: NO_SUCH_HEADER}}}}\n", "1:49", "providers.p.headers.x", "NO_SUCH_HEADER is not set"),
    ("URL with a bad path", "providers: {p: {base_url: 'http://h/a\"b'}}\n", "1:27", "providers.p.base_url", "percent-encoded"),
    ("half a client certificate", "providers: {p: {base_url: 'https://h', tls: {client_cert: /a.pem}}}\n", "1:40", "providers.p.tls", "come together"),
    ("TLS settings without TLS", "providers: {p: {base_url: 'http://h', tls: {ca_file: /a.pem}}}\n", "1:39", "providers.p.tls", "no effect"),
    ("api_version elsewhere", "providers: {p: {base_url: 'http://h', api_version: 2024-10-21}}\n", "1:52", "providers.p.api_version", "azure only"),
    ("resource elsewhere", "providers: {p: {resource: x}}\n", "1:27", "providers.p.resource", "azure only"),
]  # fmt: skip

ALL = FILES + SPECS + NAMES


@pytest.mark.parametrize(
    ("text", "place", "path", "message"), [row[1:] for row in ALL], ids=[row[0] for row in ALL]
)
def test_mistake_is_named_with_its_place(
    compile_text: Callable[..., Compiled], text: str, place: str, path: str, message: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        compile_text(text, ENVIRON)
    (found,) = caught.value.problems
    assert (f"{found.line}:{found.column}", found.path) == (place, path), str(found)
    assert message in found.message
    assert found.file == "policy.yaml"
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "place", "message"),
    [
        (b"\xef\xbb\xbfversion: 1\n", (1, 1), "byte order mark"),
        ("version: 1\n".encode("utf-16"), (1, 1), "byte order mark"),
        (b"version: 1\nteams: {a\xff: 1}\n", (2, 10), "not UTF-8"),
        (b"version: 1\n#" + b"x" * (1 << 20), (0, 0), "larger than 1 MiB"),
    ],
    ids=["BOM", "UTF-16", "not UTF-8", "too large"],
)
def test_file_of_wrong_bytes_is_named(data: bytes, place: tuple[int, int], message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load_text(data, {})
    (found,) = caught.value.problems
    assert (found.line, found.column) == place
    assert message in found.message


def test_all_mistakes_of_a_policy_come_together_in_the_order_of_lines() -> None:
    text = "teams:\n  a: {}\nmodels:\n  m: {targets: [x]}\nversion: 3\nzzz: 1\n"
    with pytest.raises(PolicyError) as caught:
        load_text(text, {})
    assert [problem.line for problem in caught.value.problems] == [2, 4, 5, 6]


def test_problem_reads_as_editors_expect_it() -> None:
    problem = Problem("policies/a.yaml", 3, 7, "models.m", "is missing")
    assert str(problem) == "policies/a.yaml:3:7: models.m: is missing"
    assert str(Problem("policies", 0, 0, "", "the folder is empty")) == "policies: the folder is empty"
