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
    ("responses of Anthropic", "providers: {p: {base_url: 'http://h', dialect: anthropic, responses: true}}\n", "1:70", "providers.p.responses", "not for dialect anthropic"),
    ("responses of a dated API", "providers: {p: {dialect: azure, resource: r, auth: none, api_version: 2024-10-21, responses: true}}\n", "1:94", "providers.p.responses", "leave out api_version"),
    ("resource elsewhere", "providers: {p: {resource: x}}\n", "1:27", "providers.p.resource", "azure only"),
]  # fmt: skip

RATE = 'must be an amount per time, like "600/min"'
AMOUNT = "must be a whole number from 1 to 9 million millions"
USD = "must be a number of US dollars above 0"
BASE = f"providers: {{p: {{base_url: 'http://h'}}}}\nmodels: {{m: {{targets: [p/a]}}}}\nteams: {{t: {{models: ['*']}}}}\nkeys: {{k: {{team: t, sha256: '{SHA}'}}}}\nprices: {{p/a: {{input: 1, output: 1}}}}\n"

QUOTAS = [
    ("limits as a mapping", "limits: {a: 1}\n", "1:1", "limits", "must be a list"),
    ("limit without a name", "limits: [{requests: 1/s}]\n", "1:10", "limits[0].name", "is missing"),
    ("limit of nothing", "limits: [{name: a}]\n", "1:10", "limits[0]", "limits nothing; give one or more of requests"),
    ("unknown key of a limit", "limits: [{name: a, requests: 1/s, tokns: 1/s}]\n", "1:35", "limits[0].tokns", "(did you mean 'tokens'?)"),
    ("name with a separator", "limits: [{name: 'a|b', requests: 1/s}]\n", "1:17", "limits[0].name", "a name is 1 to 64"),
    ("rate without a time", "limits: [{name: a, requests: 600}]\n", "1:30", "limits[0].requests", RATE),
    ("rate per an unknown time", "limits: [{name: a, requests: 600/month}]\n", "1:30", "limits[0].requests", RATE),
    ("rate is true", "limits: [{name: a, requests: true}]\n", "1:30", "limits[0].requests", RATE),
    ("rate of nothing", "limits: [{name: a, requests: 0/min}]\n", "1:30", "limits[0].requests", AMOUNT),
    ("rate of a part", "limits: [{name: a, requests: 0.5/min}]\n", "1:30", "limits[0].requests", AMOUNT),
    ("rate of too much", "limits: [{name: a, tokens: 9000000.000001m/min}]\n", "1:28", "limits[0].tokens", AMOUNT),
    ("rate per no time", "limits: [{name: a, requests: 5/0s}]\n", "1:30", "limits[0].requests", "between 1s and 31day"),
    ("rate per too long a time", "limits: [{name: a, requests: 5/32day}]\n", "1:30", "limits[0].requests", "between 1s and 31day"),
    ("negative calls at once", "limits: [{name: a, concurrent: -1}]\n", "1:32", "limits[0].concurrent", "greater than or equal to 0"),
    ("calls at once are true", "limits: [{name: a, concurrent: true}]\n", "1:32", "limits[0].concurrent", "must be a number"),
    ("burst of one of two", "limits: [{name: a, requests: 1/s, tokens: 1/s, burst: 5}]\n", "1:55", "limits[0].burst", "must say whose burst it is"),
    ("burst is a word", "limits: [{name: a, requests: 1/s, burst: x}]\n", "1:42", "limits[0].burst", AMOUNT),
    ("unknown key of a burst", "limits: [{name: a, requests: 1/s, burst: {reqests: 1}}]\n", "1:43", "limits[0].burst.reqests", "(did you mean 'requests'?)"),
    ("burst of what is not limited", BASE + "limits: [{name: a, requests: 1/s, burst: {tokens: 5}}]\n", "6:51", "limits[0].burst.tokens", "which this limit does not have"),
    ("per an unknown thing", "limits: [{name: a, requests: 1/s, per: usr}]\n", "1:40", "limits[0].per", "(did you mean 'user'?)"),
    ("per the same twice", "limits: [{name: a, requests: 1/s, per: [key, key]}]\n", "1:10", "limits[0]", "per names something twice"),
    ("per all and more", "limits: [{name: a, requests: 1/s, per: [all, key]}]\n", "1:10", "limits[0]", "all beside something else"),
    ("mode", "limits: [{name: a, requests: 1/s, mode: shdow}]\n", "1:41", "limits[0].mode", "must be one of enforce, shadow (did you mean 'shadow'?)"),
    ("when the store is down", "limits: [{name: a, requests: 1/s, when_store_down: shut}]\n", "1:52", "limits[0].when_store_down", "must be one of closed, open, share"),
    ("no subjects", "limits: [{name: a, requests: 1/s, max_subjects: 0}]\n", "1:49", "limits[0].max_subjects", "greater than or equal to 1"),
    ("unknown key of a rule's match", "limits: [{name: a, requests: 1/s, match: {targt: a}}]\n", "1:43", "limits[0].match.targt", "(did you mean 'target'?)"),
    ("target in a route's match", "routes: [{name: r, match: {target: a}, use: m}]\n", "1:28", "routes[0].match.target", "unknown key"),
    ("unknown team of a limit", BASE + "limits: [{name: a, requests: 1/s, match: {team: tt}}]\n", "6:49", "limits[0].match.team", "there is no team 'tt' (did you mean 't'?)"),
    ("unknown key of a budget's match", BASE + "budgets: [{name: a, usd: 1, every: day, match: {key: kk}}]\n", "6:54", "budgets[0].match.key", "there is no key 'kk'"),
    ("two limits of one name", BASE + "limits: [{name: a, requests: 1/s}, {name: a, tokens: 1/s}]\n", "6:43", "limits[1].name", "there are two limits or budgets called 'a'"),
    ("limit and budget of one name", BASE + "limits: [{name: a, requests: 1/s}]\nbudgets: [{name: a, usd: 1, every: day}]\n", "7:18", "budgets[0].name", "there are two limits or budgets called 'a'"),
    ("budget called as a limit's part", BASE + "limits: [{name: a, requests: 1/s}]\nbudgets: [{name: a.requests, usd: 1, every: day}]\n", "7:18", "budgets[0].name", "called 'a.requests'"),
    ("budget without money", "budgets: [{name: a, every: day}]\n", "1:11", "budgets[0].usd", "is missing"),
    ("budget of nothing", "budgets: [{name: a, usd: 0, every: day}]\n", "1:26", "budgets[0].usd", USD),
    ("budget of a word", "budgets: [{name: a, usd: $5, every: day}]\n", "1:26", "budgets[0].usd", USD),
    ("budget is true", "budgets: [{name: a, usd: true, every: day}]\n", "1:26", "budgets[0].usd", USD),
    ("budget without end", "budgets: [{name: a, usd: Infinity, every: day}]\n", "1:26", "budgets[0].usd", USD),
    ("budget of too much", "budgets: [{name: a, usd: 9000000.000000001, every: day}]\n", "1:26", "budgets[0].usd", USD),
    ("budget with ten decimals", "budgets: [{name: a, usd: '0.1234567891', every: day}]\n", "1:26", "budgets[0].usd", USD),
    ("budget without a window", "budgets: [{name: a, usd: 1}]\n", "1:11", "budgets[0]", "must have either every"),
    ("budget with two windows", "budgets: [{name: a, usd: 1, every: day, rolling: 1d}]\n", "1:11", "budgets[0]", "must have either every"),
    ("budget per an unknown time", "budgets: [{name: a, usd: 1, every: yea}]\n", "1:36", "budgets[0].every", "must be one of hour, day, week, month"),
    ("rolling window of half a minute", "budgets: [{name: a, usd: 1, rolling: 30s}]\n", "1:38", "budgets[0].rolling", "must be whole minutes"),
    ("rolling window of two years", "budgets: [{name: a, usd: 1, rolling: 730d}]\n", "1:38", "budgets[0].rolling", "must be whole minutes"),
    ("time zone", "budgets: [{name: a, usd: 1, every: day, timezone: Europe/Berlinn}]\n", "1:51", "budgets[0].timezone", "must be a time zone like UTC or Europe/Berlin (did you mean 'Europe/Berlin'?)"),
    ("time zone of this host", "budgets: [{name: a, usd: 1, every: day, timezone: localtime}]\n", "1:51", "budgets[0].timezone", "must be a time zone"),
    ("time zone that is a folder", "budgets: [{name: a, usd: 1, every: day, timezone: Europe}]\n", "1:51", "budgets[0].timezone", "must be a time zone"),
    ("time zone that is a path", "budgets: [{name: a, usd: 1, every: day, timezone: ../../etc/passwd}]\n", "1:51", "budgets[0].timezone", "must be a time zone"),
    ("alert at nothing", "budgets: [{name: a, usd: 1, every: day, alert_at: [0%]}]\n", "1:52", "budgets[0].alert_at[0]", "must be above 0"),
    ("alert at too much", "budgets: [{name: a, usd: 1, every: day, alert_at: [120%]}]\n", "1:52", "budgets[0].alert_at[0]", "must be a percentage"),
    ("when spent", "budgets: [{name: a, usd: 1, every: day, when_spent: drop}]\n", "1:53", "budgets[0].when_spent", "must be reject or {use: MODEL}"),
    ("when spent, nothing", "budgets: [{name: a, usd: 1, every: day, when_spent: {}}]\n", "1:41", "budgets[0].when_spent", "must be reject or {use: MODEL}"),
    ("when spent, unknown model", BASE + "budgets: [{name: a, usd: 1, every: day, when_spent: {use: mm}}]\n", "6:59", "budgets[0].when_spent.use", "there is no model 'mm' (did you mean 'm'?)"),
    ("class of a budget", "budgets: [{name: a, usd: 1, every: day, class: stric}]\n", "1:48", "budgets[0].class", "(did you mean 'strict'?)"),
    ("name of class in the code", "budgets: [{name: a, usd: 1, every: day, exactness: strict}]\n", "1:41", "budgets[0].exactness", "unknown key"),
    ("default_output_tokens", "budgets: [{name: a, usd: 1, every: day, default_output_tokens: 0}]\n", "1:64", "budgets[0].default_output_tokens", "greater than or equal to 1"),
    ("unpriced", "budgets: [{name: a, usd: 1, every: day, unpriced: alow}]\n", "1:51", "budgets[0].unpriced", "must be one of refuse, allow (did you mean 'allow'?)"),
    ("target with limits of nothing", "providers: {p: {base_url: 'http://h'}}\nmodels: {m: {targets: [{provider: p, model: a, limits: {}}]}}\n", "2:48", "models.m.targets[0].limits", "limits nothing"),
    ("target with a bad limit", "models: {m: {targets: [{provider: a, model: b, limits: {requests: 5}}]}}\n", "1:67", "models.m.targets[0].limits.requests", RATE),
    ("target with limits for a team", "models: {m: {targets: [{provider: a, model: b, limits: {per: key}}]}}\n", "1:57", "models.m.targets[0].limits.per", "unknown key"),
    ("context of no tokens", "models: {m: {targets: [{provider: a, model: b, context: 0}]}}\n", "1:57", "models.m.targets[0].context", "greater than or equal to 1"),
    ("reasoning", "models: {m: {targets: [{provider: a, model: b, reasoning: high}]}}\n", "1:59", "models.m.targets[0].reasoning", "must be true or false"),
    ("fee below 0", "prices: {a/b: {input: 1, output: 1, per_call: -1}}\n", "1:47", "prices.a/b.per_call", "greater than or equal to 0"),
    ("store is text", "store: redis\n", "1:8", "store", "must be a mapping"),
    ("store with a password", "store: {redis: 'redis://:sk-proj-Zq8VxT3mW7@h'}\n", "1:16", "store.redis", "must not hold a user or password"),
    ("store with a password after ?", "store: {redis: 'redis://h?password=sk-proj-Zq8VxT3mW7'}\n", "1:16", "store.redis", "must not hold a user or password"),
    ("store of another kind", "store: {redis: 'http://h'}\n", "1:16", "store.redis", "must be a URL like redis://host:6379/0"),
    ("store is a secret", "store: {redis: {env: PASTED}}\n", "1:9", "store.redis", "must be a URL like redis://host:6379/0"),
    ("store that is not set", "store: {redis: {env: NO_SUCH}}\n", "1:9", "store.redis", "NO_SUCH is not set"),
    ("store on a bad port", "store: {redis: 'redis://h:x'}\n", "1:16", "store.redis", "host or port that cannot exist"),
    ("alerts without a webhook", "alerts: {secret: {env: GOOD_KEY}}\n", "1:1", "alerts.webhook", "is missing"),
    ("webhook that is no URL", "alerts: {webhook: {env: PASTED}}\n", "1:10", "alerts.webhook", "begins with http://"),
    ("webhook with a query", "alerts: {webhook: 'https://h/?sk-proj-Zq8VxT3mW7'}\n", "1:19", "alerts.webhook", "must not have a query"),
    ("secret of alerts in the file", "alerts: {webhook: 'https://h', secret: sk-proj-Zq8VxT3mW7}\n", "1:40", "alerts.secret", "a secret never stands in a policy file"),
]  # fmt: skip

ALL = FILES + SPECS + NAMES + QUOTAS


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
