"""What this machine is (cores, kernel, interpreter build) and what it lacks for a run."""

import os
import platform
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class BenchError(Exception):
    """A run that cannot go on, in one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Where processes are pinned: what is measured on one core, load and upstream on another."""

    gateway: int
    load: int


@dataclass(frozen=True, slots=True)
class Tools:
    """Full paths of the programs a run starts."""

    nginx: str
    wrk: str
    compiler: str


@dataclass(frozen=True, slots=True)
class Rig:
    """What every part of a run works with; `folder` is a temporary one."""

    tools: Tools
    cores: Cores
    folder: Path


def cores() -> Cores:
    """The first and the last core this process may use; the same one twice on a one-core machine."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(gateway=usable[0], load=usable[1] if len(usable) > 1 else usable[0])


def tools(systems: list[str], scenarios: list[str]) -> Tools:
    """The programs these systems and scenarios need; BenchError names all that are missing."""
    nginx = _program("nginx")
    wrk = _program("wrk")
    compiler = _program("cc") or _program("gcc") or _program("clang")
    lacking = []
    if not compiler:
        lacking.append("a C compiler (cc, Debian: apt-get install gcc libc6-dev)")
    if not wrk and set(scenarios) - {"stream_paced"}:
        lacking.append("wrk (Debian: apt-get install wrk)")
    if not nginx and ("nginx" in systems or "tls" in scenarios):
        lacking.append("nginx (Debian: apt-get install nginx-light)")
    if "headgate" in systems and not (ROOT / "gateway/control/supervisor.py").is_file():
        lacking.append("Headgate itself (gateway/control/supervisor.py is not in this checkout)")
    if sys.platform != "linux":
        lacking.append("Linux (CPU and memory are read from /proc)")
    if lacking:
        raise BenchError(f"The bench cannot run here, it lacks: {'; '.join(lacking)}.")
    return Tools(nginx=nginx, wrk=wrk, compiler=compiler)


def _program(name: str) -> str:
    # Debian keeps nginx in /usr/sbin, which is not on the path of ordinary users.
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin") or ""


def pgo() -> str:
    """Whether the interpreter was built with profile-guided optimisation: "yes", "no" or "probably"."""
    if "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""):
        return "yes"
    # Debian and its children run `make profile-opt` themselves, which leaves no trace in the configuration.
    if Path("/etc/debian_version").exists() and sys.base_prefix == "/usr":
        return "probably"
    return "no"


def description() -> str:
    """One line: processor, cores, kernel, interpreter."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    notes = {
        "yes": "PGO build",
        "probably": "distribution build, taken to be PGO",
        "no": "NOT a PGO build: Headgate measures 7-15 % worse here than it runs on one",
    }
    count = len(os.sched_getaffinity(0))
    return (
        f"{model}, {count} core{'s' if count != 1 else ''}, Linux {platform.release()}, "
        f"{platform.python_implementation()} {platform.python_version()} ({notes[pgo()]})"
    )
