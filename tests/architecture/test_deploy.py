"""What deploys headrace fits what is deployed: files, commands, ports, keys, drains, and the names of metrics."""

import json
import re
import subprocess
import sys
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ruamel.yaml import YAML

from headrace.config import Config
from headrace.dev import children
from headrace.health import Health, routes
from headrace.keys import Keys
from headrace.serving import LAST_GRACE_S
from headrace.telemetry import REGISTRY
from headrace.testing.prediction.alone import NEEDED
from headrace.vocabulary import DRAIN_S

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
SERVICES = sorted(folder.name for folder in (ROOT / "services").iterdir() if folder.is_dir())
PORT = 8374
SCRAPED_LABELS = {"job", "service", "pod", "le"}
each_service = pytest.mark.parametrize("service", SERVICES)


def loaded(path: Path) -> ModuleType:
    """Load a script that is no module of a package."""
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(path: Path) -> list[Any]:
    """Give the documents of a YAML file."""
    return [document for document in YAML(typ="safe").load_all(path) if document is not None]


def manifests(kind: str) -> list[dict[str, Any]]:
    """Give the manifests of a kind."""
    found = [document for path in (DEPLOY / "k8s/base").glob("*.yaml") for document in read(path)]
    return [document for document in found if document["kind"] == kind and document["metadata"].get("name") != "any"]


def component(manifest: dict[str, Any]) -> str:
    """Give the service that a workload runs."""
    return str(manifest["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"])


def every_pod() -> dict[str, Any]:
    """Give what is patched into the pods of all Deployments."""
    spec: dict[str, Any] = read(DEPLOY / "k8s/base/every-pod.yaml")[0]["spec"]["template"]["spec"]
    return spec


# the image


@each_service
def test_everything_that_the_dockerfile_copies_exists_and_is_let_into_the_build(service: str) -> None:
    copied = re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.MULTILINE)
    assert copied
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for path in (each.replace("${SERVICE}", service) for each in copied):
        assert (ROOT / path).exists(), path
        assert path.split("/")[0] in let_in
    for path in re.findall(r"-r (\S+)", DOCKERFILE):
        pins = (ROOT / path.replace("${SERVICE}", service)).read_text()
        assert pins.count("==") <= pins.count("--hash=sha256:")
        assert "://" not in pins


def test_the_image_of_the_api_holds_what_a_simulation_needs_and_pins_what_that_needs() -> None:
    (line,) = re.findall(r"^RUN set -- (.*)\\$", DOCKERFILE, re.MULTILINE)
    assert set(re.findall(r"\./services/([a-z]+)", line)) == NEEDED
    pins = {service: _pinned(ROOT / f"requirements/{service}.txt") for service in ("api", *NEEDED)}
    assert all(pins[service] <= pins["api"] for service in NEEDED)


def _pinned(file: Path) -> set[str]:
    return set(re.findall(r"^[\w.-]+==\S+", file.read_text(), re.MULTILINE))


def test_the_image_is_small_unprivileged_and_stops_in_order() -> None:
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["python:${PYTHON}-slim"] * 2
    assert "ARG PYTHON=3.13\n" in DOCKERFILE
    assert "USER 10001:10001" in DOCKERFILE
    assert "STOPSIGNAL SIGTERM" in DOCKERFILE
    assert "://" not in DOCKERFILE
    assert all(
        "--require-hashes" in line or "--no-index" in line
        for line in re.findall(r"pip (?:install|wheel).*", DOCKERFILE)
    )


@each_service
def test_the_wheels_hold_every_file_of_their_packages(service: str, tmp_path: Path) -> None:
    for source in [ROOT / "services" / service, *([ROOT / "shared"] if service == SERVICES[0] else [])]:
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
        subprocess.run([*command, "--wheel-dir", str(tmp_path), str(source)], check=True, capture_output=True)
        (package,) = (folder for folder in source.iterdir() if (folder / "__init__.py").exists())
        (wheel,) = tmp_path.glob(f"{package.name}-*.whl")
        held = set(zipfile.ZipFile(wheel).namelist())
        files = {path.relative_to(source).as_posix() for path in package.rglob("*") if path.is_file()}
        assert {path for path in files if not path.endswith(".pyc")} <= held


@each_service
def test_the_entry_point_runs_the_service_and_says_what_it_misses(service: str, tmp_path: Path) -> None:
    assert r"exec headrace serve %s" in DOCKERFILE
    given = dict(re.findall(r"(HEADRACE_\w+)=(\S+)", DOCKERFILE))
    assert set(given) == {"HEADRACE_DATA_DIR", "HEADRACE_API_HOST", "HEADRACE_API_PORT", "HEADRACE_HEALTH_PORT"}
    command = [str(Path(sys.executable).with_name("headrace")), "serve", service]
    env = {**given, **secrets()[f"headrace-{service}"], "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    ended = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert json.loads(ended.stderr)["message"] == f"{service} ends: HEADRACE_NATS_URL is not set"


# Kubernetes


def test_every_manifest_is_part_of_the_base_and_every_service_has_a_deployment() -> None:
    (base,) = read(DEPLOY / "k8s/base/kustomization.yaml")
    files = {path.name for path in (DEPLOY / "k8s/base").glob("*.yaml")}
    assert files == {*base["resources"], "kustomization.yaml", *(patch["path"] for patch in base["patches"])}
    deployments = manifests("Deployment")
    assert sorted(component(each) for each in deployments) == SERVICES
    for each in deployments:
        (container,) = each["spec"]["template"]["spec"]["containers"]
        assert container["image"] == f"headrace-{component(each)}" == each["metadata"]["name"]
        assert each["spec"]["selector"]["matchLabels"] == each["spec"]["template"]["metadata"]["labels"]
    assert {image["name"] for image in base["images"]} == {f"headrace-{name}" for name in SERVICES}


def test_probes_and_services_ask_where_something_answers() -> None:
    served = {path for path, _ in routes("any", Health(), dict)}
    (container,) = every_pod()["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": PORT}]
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {probe["path"] for probe in asked.values()} <= served
    assert (asked["readiness"]["path"], asked["liveness"]["path"]) == ("/readyz", "/healthz")
    assert {probe["port"] for probe in asked.values()} == {"http"}
    assert f"HEADRACE_API_PORT={PORT}" in DOCKERFILE
    assert f"HEADRACE_HEALTH_PORT={PORT}" in DOCKERFILE
    services = {each["metadata"]["name"]: each["spec"] for each in manifests("Service")}
    assert set(services) == {"headrace-api", *(f"headrace-{name}-pods" for name in SERVICES)}
    assert {port["targetPort"] for spec in services.values() for port in spec["ports"]} == {"http"}
    (scraped,) = read(DEPLOY / "prometheus/prometheus.yml")[0]["scrape_configs"]
    (found,) = scraped["dns_sd_configs"]
    assert (set(found["names"]), found["port"]) == (set(services) - {"headrace-api"}, PORT)


def test_a_pod_has_the_time_that_a_drain_takes_and_nothing_to_write_to() -> None:
    pod = every_pod()
    waits = [
        each["spec"]["template"]["spec"]["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {})
        for each in manifests("Deployment")
    ]
    longest = max(wait.get("seconds", 0) for wait in waits)
    assert pod["terminationGracePeriodSeconds"] > DRAIN_S + LAST_GRACE_S + longest
    for spec in (pod, *(job["spec"]["template"]["spec"] for job in manifests("Job"))):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert f"USER {spec['securityContext']['runAsUser']}:" in DOCKERFILE
        (container,) = spec["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
    for each in manifests("Deployment"):
        (container,) = each["spec"]["template"]["spec"]["containers"]
        volumes = {volume["name"] for volume in each["spec"]["template"]["spec"]["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]  # noqa: S108  (the container's own)


def test_a_disruption_never_takes_all_pods_of_a_service() -> None:
    replicas = {component(each): each["spec"]["replicas"] for each in manifests("Deployment")}
    budgets = {
        each["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]: each["spec"]["maxUnavailable"]
        for each in manifests("PodDisruptionBudget")
    }
    assert set(budgets) == {name for name, number in replicas.items() if number > 1}
    assert all(budgets[name] < replicas[name] for name in budgets)


def test_only_variables_that_are_read_are_set_and_only_secrets_that_are_made_are_mounted() -> None:
    read_by_config = (ROOT / "shared/headrace/config.py").read_text()
    (base,) = read(DEPLOY / "k8s/base/kustomization.yaml")
    made = secrets()
    names = {literal.split("=")[0] for literal in base["configMapGenerator"][0]["literals"]}
    mounted: set[str] = set()
    for each in [*manifests("Deployment"), *manifests("Job")]:
        spec = each["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        names |= {variable["name"] for variable in container.get("env", [])}
        given = [source["secretRef"]["name"] for source in container["envFrom"] if "secretRef" in source]
        assert given == [each["metadata"]["name"]]
        names |= set(made[given[0]])
        mounted |= {*given, *(volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume)}
    assert [name for name in sorted(names) if f'"{name}"' not in read_by_config] == []
    assert mounted == set(made)


def secrets() -> dict[str, dict[str, str]]:
    """Give the Secrets that the script makes."""
    given: dict[str, dict[str, str]] = loaded(DEPLOY / "k8s/make_secrets.py").secrets(
        "ab" * 32, "postgresql://x", "postgresql://y"
    )
    return given


@each_service
def test_a_service_is_given_the_same_rights_as_under_up(service: str) -> None:
    place = children.Place(
        database_url="postgresql://x",
        nats_url="nats://x",
        secret_file=Path("/s"),
        keys=Keys(master=b"\xab" * 32),
        incarnation="x",
    )
    env = children.service(service, Config(), place, {}, PORT).env
    rights = {name: env[name] for name in ("HEADRACE_DATABASE_URL", "HEADRACE_KEYS") if env.get(name)}
    assert secrets()[f"headrace-{service}"] == rights
    (manifest,) = (each for each in manifests("Deployment") if component(each) == service)
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    holds_master = any(variable["name"] == "HEADRACE_SECRET_FILE" for variable in container.get("env", []))
    assert holds_master == ("HEADRACE_SECRET_FILE" in env)


def test_only_the_runner_and_integrations_reach_the_world_and_only_they_do_not_reach_the_database() -> None:
    reaches = {
        each["metadata"]["name"].removeprefix("headrace-"): set(
            each["spec"]["podSelector"]["matchExpressions"][0]["values"]
        )
        for each in manifests("NetworkPolicy")
        if "matchExpressions" in each["spec"]["podSelector"]
    }
    assert reaches["world"] == {"runner", "integrations"}
    assert reaches["nats"] == set(SERVICES)
    assert reaches["database"] == {
        name for name in SERVICES if "HEADRACE_DATABASE_URL" in secrets()[f"headrace-{name}"]
    } | {"migrate"}
    (closed,) = (
        each
        for each in manifests("NetworkPolicy")
        if each["spec"]["podSelector"] == {} and "Ingress" in each["spec"]["policyTypes"]
    )
    assert "ingress" not in closed["spec"]


# metrics


def metrics() -> dict[str, set[str]]:
    """Give the labels of every series that the processes serve, by its name."""
    kept: dict[str, Any] = REGISTRY._names_to_collectors
    return {name: set(getattr(collector, "_labelnames", ())) for name, collector in kept.items()}


def assert_asks_for_what_is_served(expression: str) -> None:
    known = metrics()
    named = set(re.findall(r"\bheadrace_\w+", expression))
    assert named <= set(known), f"no such metric: {sorted(named - set(known))}"
    grouped = {label.strip() for by in re.findall(r"by \(([^)]*)\)", expression) for label in by.split(",")}
    matched = set(re.findall(r"[{,]\s*(\w+)\s*=~?\"", expression))
    assert grouped | matched <= SCRAPED_LABELS.union(*(known[name] for name in named)), expression


def test_every_alert_asks_for_metrics_and_labels_that_exist() -> None:
    (alerts,) = read(DEPLOY / "prometheus/alerts.yml")
    rules = [rule for group in alerts["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 5
    for rule in rules:
        assert_asks_for_what_is_served(rule["expr"])
        assert {"summary", "action"} == set(rule["annotations"])


def test_every_panel_asks_for_metrics_and_labels_that_exist_and_the_dashboard_is_as_generated() -> None:
    script = loaded(DEPLOY / "grafana/make_dashboard.py")
    assert (DEPLOY / "grafana/headrace.json").read_text() == script.text(), "python deploy/grafana/make_dashboard.py"
    panels = json.loads(script.text())["panels"]
    shown: set[str] = set()
    for panel in panels:
        (target,) = panel["targets"]
        assert_asks_for_what_is_served(target["expr"])
        shown |= {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"\bheadrace_\w+", target["expr"])}
    own = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in metrics() if name.startswith("headrace_")}
    own = {name for name in own if f"{name}_total" not in own}
    assert own - shown == set(), "every metric of our own is shown"
