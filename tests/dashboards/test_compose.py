"""compose.yaml is wired: what it mounts is there, who is named is a service, ports and addresses agree."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from dashboards import build
from dashboards.demo import load
from gateway.policy.load import load_folder

ROOT = build.ROOT
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
POLICY: dict[str, Any] = yaml.safe_load((ROOT / "dashboards/demo/policies/demo.yaml").read_text())
LISTENS = {"headgate": {8080, 9464}, "north": {8090}, "south": {8090}, "redis": {6379}, "prometheus": {9090}}
LISTENS |= {"grafana": {3000}, "collector": {4318}, "load": set()}
"""Of the gateway by its Dockerfile, of simulators by the command's default, of others by their images."""


def mounts(service: str) -> dict[str, Path]:
    """Where files of this folder appear in the container → where they are."""
    found = (each.split(":") for each in SERVICES[service].get("volumes", ()))
    return {parts[1]: ROOT / parts[0] for parts in found if parts[0].startswith("./")}


def addresses() -> Iterator[tuple[str, int]]:
    """(service, port) of every address that one service is told of another."""
    told: list[str] = []
    for service in SERVICES.values():
        told += map(str, service.get("environment", {}).values())
    told += re.findall(r":-(\S+?)\}", str(POLICY["providers"]))
    sources = ROOT / "dashboards/provisioning/datasources/prometheus.yaml"
    told += [source["url"] for source in yaml.safe_load(sources.read_text())["datasources"]]
    scraped = yaml.safe_load((ROOT / "dashboards/prometheus.yml").read_text())["scrape_configs"]
    told += [
        f"http://{target}" for job in scraped for each in job["static_configs"] for target in each["targets"]
    ]
    for address in told:
        where = urlsplit(address)
        if where.hostname and where.port:
            yield where.hostname, where.port


def test_addresses_are_those_of_services() -> None:
    found = list(addresses())
    assert {service for service, _ in found} == {
        "headgate",
        "north",
        "south",
        "redis",
        "prometheus",
        "collector",
    }
    for service, port in found:
        assert port in LISTENS[service]


def test_ports_are_open_to_this_host_only() -> None:
    assert set(LISTENS) == set(SERVICES)
    for name, service in SERVICES.items():
        for published in service.get("ports", ()):
            address, _, inner = published.split(":")
            assert address == "127.0.0.1" and int(inner) in LISTENS[name]


def test_what_is_mounted_is_there_and_cannot_be_written() -> None:
    mounted = [path for service in SERVICES for path in mounts(service).values()]
    assert len(mounted) >= 7
    assert [path for path in mounted if not path.exists()] == []
    for service in SERVICES.values():
        for each in service.get("volumes", ()):
            source = each.split(":")[0]
            assert each.endswith(":ro") if source.startswith("./") else source in COMPOSE["volumes"]


def test_services_wait_for_services() -> None:
    for service in SERVICES.values():
        for needed in service.get("depends_on", ()):
            assert needed in SERVICES


def test_grafana_finds_dashboards_where_its_provisioning_says() -> None:
    inside = mounts("grafana")
    provisioning = inside["/etc/grafana/provisioning"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/headgate.yaml").read_text())["providers"]
    assert inside[provider["options"]["path"]] == build.GRAFANA
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (build.GRAFANA / home.removeprefix(provider["options"]["path"] + "/")).exists()


def test_prometheus_finds_the_rules_where_its_configuration_says() -> None:
    inside = mounts("prometheus")
    config = inside["/etc/prometheus/prometheus.yml"]
    (pattern,) = yaml.safe_load(config.read_text())["rule_files"]
    assert list(inside["/etc/prometheus/rules"].glob(pattern.removeprefix("rules/")))
    assert list(config.parent.glob(pattern))
    assert "--config.file=/etc/prometheus/prometheus.yml" in SERVICES["prometheus"]["command"]


def test_collector_takes_what_the_gateway_sends() -> None:
    (path,) = mounts("collector").values()
    config = yaml.safe_load(path.read_text())
    endpoint = config["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    assert SERVICES["headgate"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"].endswith(
        endpoint.rpartition(":")[2]
    )
    for pipeline in config["service"]["pipelines"].values():
        for part in ("receivers", "processors", "exporters"):
            assert set(pipeline[part]) <= set(config[part])


def test_redis_forgets_nothing() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    for setting in ("--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"):
        assert setting in command


def test_callers_of_the_demonstration_have_its_keys_and_models() -> None:
    for name, key in load.KEYS.items():
        assert POLICY["keys"][name]["sha256"] == hashlib.sha256(key.encode()).hexdigest()
        team = POLICY["teams"][POLICY["keys"][name]["team"]]
        for model in load.MODELS[name]:
            assert model in POLICY["models"]
            assert model in team["models"] or team["models"] == ["*"]


def test_images_have_versions() -> None:
    for name, service in SERVICES.items():
        assert service["image"] == "headgate" or re.search(r":v?\d+\.\d+", service["image"]), name
        assert ("build" in service) is (service["image"] == "headgate")


def test_policy_of_the_demonstration_is_one() -> None:
    load_folder(ROOT / "dashboards/demo/policies", {"REDIS_URL": "redis://redis:6379/0"})
