"""What stands around the code says the same as the code: locks, make, images, notes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-build.lock")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "benchmarks/README.md", ".ci/run")

Pins = dict[str, list[Requirement]]


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def project() -> dict[str, Any]:
    return tomllib.loads(text_of("pyproject.toml"))


def pins(lock: str) -> Pins:
    """Name → what a lock pins for it: several versions where Pythons or platforms need different ones."""
    found: Pins = {}
    for entry in text_of(lock).replace("\\\n", " ").splitlines():
        requirement = Requirement(entry.partition("--hash")[0])
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def declared(*groups: str) -> list[str]:
    """The requirements of pyproject.toml: the runtime's, or those of groups."""
    table = project()
    if not groups:
        return list(table["project"]["dependencies"])
    return [line for group in groups for line in table["dependency-groups"][group]]


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_exact_versions_by_hash_and_names_no_host_or_path(lock: str) -> None:
    entries = text_of(lock).replace("\\\n", " ").splitlines()
    assert len(entries) > 5
    form = re.compile(r"[\w.-]+==(\d+!)?[\w.]+( ; [^/@:]+)?( +--hash=sha256:[0-9a-f]{64})+ *")
    assert [entry for entry in entries if not form.fullmatch(entry)] == []


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("requirements.lock", declared()),
        ("requirements-dev.lock", declared() + declared("dev")),
        ("requirements-build.lock", declared("build") + project()["build-system"]["requires"]),
    ],
)
def test_lock_satisfies_the_project(lock: str, wanted: list[str]) -> None:
    locked = pins(lock)
    assert len(wanted) > 2
    for requirement in map(Requirement, wanted):
        versions = [
            str(pin.specifier).removeprefix("==") for pin in locked[canonicalize_name(requirement.name)]
        ]
        assert versions, requirement
        assert all(requirement.specifier.contains(version) for version in versions), requirement


def test_tests_run_with_the_versions_that_are_served() -> None:
    dev = pins("requirements-dev.lock")
    for name, served in pins("requirements.lock").items():
        assert {str(pin.specifier) for pin in served} == {str(pin.specifier) for pin in dev[name]}


def test_every_dependency_has_a_reason() -> None:
    lines = re.findall(r'^    "([A-Za-z][\w.-]*)[\[><=].*', text_of("pyproject.toml"), re.MULTILINE)
    extras = [line for extra in project()["project"]["optional-dependencies"].values() for line in extra]
    assert len(lines) == len(declared()) + len(extras) + len(declared("build", "dev"))
    bare = re.findall(r'^    "([A-Za-z][\w.-]*)[\[><=][^#\n]*$', text_of("pyproject.toml"), re.MULTILINE)
    assert bare == []


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", text_of("Makefile"), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_name_only_make_targets_that_exist(document: str) -> None:
    code = "\n".join(re.findall(r"```.*?```|`[^`]+`", text_of(document), re.DOTALL)) or text_of(document)
    named = {
        word
        for line in re.findall(r"^(?:exec )?`?make ((?:[a-z-]+ ?)+)", code, re.MULTILINE)
        for word in line.split()
    }
    assert named
    assert named <= targets()


def test_make_alone_lists_every_target() -> None:
    done = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, check=True)
    assert set(re.findall(r"^  make ([a-z-]+)", done.stdout, re.MULTILINE)) == targets()


def test_bench_prints_nothing_of_make_on_stdout() -> None:
    recipe = re.search(r"^bench:.*\n((?:\t.*\n)+)", text_of("Makefile"), re.MULTILINE)
    assert recipe is not None and "benchmarks/run.py $(ARGS)" in recipe[1]
    assert all(line.startswith("\t@") for line in recipe[1].splitlines())
    said = re.findall(r"^ *echo .*", text_of("scripts/environment.sh"), re.MULTILINE)
    assert len(said) > 2
    assert [line for line in said if not re.search(r">&2$|> \"?\.venv/", line)] == []


STUBS = {
    "too old": ("exit 1", 1, "no Python 3.11 or newer"),
    "without venv": ("exit 2", 1, "apt-get install python3-venv"),
    "plain": ("echo plain /somewhere/python3", 0, "/somewhere/python3"),
    "optimised": ("echo pgo /elsewhere/python3", 0, "/elsewhere/python3"),
    "broken": ("echo Traceback >&2; exit 139", 1, "no Python 3.11 or newer"),
}


@pytest.mark.parametrize("case", STUBS)
def test_interpreter_is_chosen_or_one_line_says_what_to_install(case: str, tmp_path: Path) -> None:
    script, code, says = STUBS[case]
    stub = tmp_path / "python3"
    stub.write_text(f"#!/bin/sh\n{script}\n")
    stub.chmod(0o755)
    done = choose(str(stub))
    assert done.returncode == code
    said = done.stdout + done.stderr
    assert says in said
    assert said.count("\n") == 1


def test_optimised_interpreter_is_preferred(tmp_path: Path) -> None:
    for name, kind in (("first", "plain"), ("second", "pgo")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {kind} /{name}\n")
        (tmp_path / name).chmod(0o755)
    assert choose(f"{tmp_path}/first {tmp_path}/second").stdout == "/second\n"


def test_this_interpreter_would_be_accepted() -> None:
    assert choose(sys.executable).stdout == f"{sys.executable}\n"


def choose(candidates: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(ROOT / "scripts/python.sh")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": candidates},
    )


def test_scripts_can_be_executed() -> None:
    scripts = [ROOT / ".ci/run", *(ROOT / "scripts").glob("*.sh")]
    assert len(scripts) > 4
    for script in scripts:
        assert script.stat().st_mode & 0o111 == 0o111, script
        assert script.read_text().startswith("#!/bin/sh"), script


def test_only_deps_calls_the_system_package_manager() -> None:
    calling = {
        path.name
        for path in (ROOT / "Makefile", ROOT / ".ci/run", *(ROOT / "scripts").glob("*.sh"))
        for line in path.read_text().splitlines()
        if "apt-get" in line and not line.lstrip().startswith(("#", "echo"))
    }
    assert calling == {"deps.sh"}


def test_changes_begin_with_the_version_of_the_project() -> None:
    versions = re.findall(r"^## (\S+)", text_of("CHANGES.md"), re.MULTILINE)
    assert versions[0] == project()["project"]["version"]


def test_licence_is_the_one_the_project_names() -> None:
    assert project()["project"]["license"] == "Apache-2.0"
    text = text_of("LICENSE")
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_image_serves_as_nobody_from_a_read_only_root() -> None:
    stages = re.split(r"^FROM ", text_of("Dockerfile"), flags=re.MULTILINE)[1:]
    assert len(stages) == 2
    assert all(stage.startswith("python:3.13-slim") for stage in stages)
    served = stages[-1]
    user = re.search(r"^USER (\S+)", served, re.MULTILINE)
    assert user is not None and user[1] not in ("root", "0")
    assert served.index("\nUSER") > served.index("\nRUN"), "what needs root runs before"
    settings = dict(re.findall(r"(HEADGATE_\w+)=(\S+)", served))
    assert settings["HEADGATE_LISTEN"] == "0.0.0.0:8080"
    assert f"VOLUME {settings['HEADGATE_STATE']}" in served
    health = served[served.index("HEALTHCHECK") :]
    assert "/readyz" in health and "urllib" in health and "curl" not in health
    assert "--require-hashes" in stages[0] and "--only-binary :all:" in stages[0]


def test_image_gets_every_file_it_copies() -> None:
    let_in = {line[1:] for line in text_of(".dockerignore").splitlines() if line.startswith("!")}
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*)", text_of("Dockerfile"), re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert copied and copied == let_in
    assert all((ROOT / source).exists() for source in copied)
