"""What `deploy/` says fits the product, as far as it can be seen without Docker, systemd and Kubernetes."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import SecretStr

from runware_provider.api.guard import OPEN_PATHS
from runware_provider.errors import ConfigurationError
from runware_provider.serving import STOP_LIMIT
from runware_provider.settings import PREFIX, SecretList, Settings, load_settings, variable
from runware_provider.tokens import WEBHOOK_PATH
from tests.deploy.files import (
    DEPLOY,
    ROOT,
    UNITS,
    asked_of_env,
    compose,
    instructions,
    locked,
    manifest,
    manifests,
    nodes,
    parsed,
    pods,
    unit,
)

NOWHERE = Path("/nonexistent")
KNOWN = {variable(name) for name in Settings.model_fields}
SECRET = {
    variable(name)
    for name, field in Settings.model_fields.items()
    if SecretStr in get_args(field.annotation) or field.annotation == get_args(SecretList)[0]
}
CREDENTIALS = SECRET | {variable("state_url")}
"""What must not stand in a file."""

ROLES = ["api", "worker"]
PORTS = {"api": 8080, "worker": 8081}
TEXTS = sorted(
    path
    for folder, pattern in ((DEPLOY, "**/*"), (ROOT / "docs" / "how-to", "deploy-*.md"))
    for path in folder.glob(pattern)
    if path.is_file() and path.suffix != ".lock"
)
YAML = [path for path in TEXTS if path.suffix in {".yaml", ".yml"}]


def run(*arguments: str) -> None:
    """A linter of ours; fails with what it says."""
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_setting_that_is_named_is_known(path: Path) -> None:
    """A name that is not known stops the start."""
    lines = [line for line in path.read_text().splitlines() if "SERVICE_HOST" not in line]
    named = set(re.findall(r"\bRUNWARE_[A-Z0-9_]*[A-Z0-9]\b", "\n".join(lines)))

    assert named <= KNOWN


def test_the_composed_environment_makes_settings_of_many_nodes() -> None:
    """Including what only fits together."""
    url = "https://images.example.com"
    services = compose(RUNWARE_PROVIDER_PUBLIC_URL=url, RUNWARE_PROVIDER_CLIENT_TOKENS="new,old", METRICS_TOKEN="m")
    for name in nodes():
        settings = load_settings(services["services"][name]["environment"], NOWHERE)

        assert settings.many_nodes
        assert url == settings.public_url
        assert settings.delivery_mode == "webhook"
        assert [token.get_secret_value() for token in settings.client_tokens] == ["new", "old", "m"]
        assert settings.artifacts_address == "s3://images"
        assert settings.state_address == settings.projection_address


def test_composed_parts_know_each_other() -> None:
    """Names, ports, users and passwords of the database and of the store."""
    services = compose()["services"]
    settings = load_settings(services["worker"]["environment"] | {f"{PREFIX}PUBLIC_URL": "https://x.example"}, NOWHERE)
    postgres, store = services["postgres"]["environment"], services["s3"]["environment"]

    assert settings.state_url == (
        f"postgresql://{postgres['POSTGRES_USER']}:{postgres['POSTGRES_PASSWORD']}@postgres:5432/{postgres['POSTGRES_DB']}"
    )
    assert settings.s3_endpoint == "http://s3:7070"
    assert settings.s3_access_key_id == store["ROOT_ACCESS_KEY"]
    assert settings.s3_secret_access_key == SecretStr(store["ROOT_SECRET_KEY"])
    (volume,) = services["s3"]["volumes"]
    assert settings.artifacts_address == f"s3://{volume.rpartition('/')[2]}"
    for service in services.values():
        depends = service.get("depends_on", [])
        assert set(depends) <= set(services)
        for other, condition in depends.items() if isinstance(depends, dict) else ():
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in services[other]


def test_no_secret_stands_in_a_file() -> None:
    """In compose.yaml each comes from `.env`, whose example is empty; in Kubernetes from a Secret that is not here."""
    example = dict(
        line.split("=", 1) for line in (DEPLOY / "example.env").read_text().splitlines() if line and line[0] != "#"
    )
    assert asked_of_env() == set(example)
    assert {""} == set(example.values())
    before, after = compose()["services"], compose(**{name: "x" + name for name in example})["services"]
    for name, service in before.items():
        for key, value in service.get("environment", {}).items():
            if key in CREDENTIALS or re.search("PASSWORD|SECRET|TOKEN", key):
                assert value != after[name]["environment"][key], key
    assert not CREDENTIALS & set(manifest("ConfigMap")["data"])
    assert "Secret" not in {each["kind"] for each in manifests()}
    for path in UNITS:
        assert not any(name in path.read_text() for name in CREDENTIALS)


def test_images_are_pinned() -> None:
    """By the whole version: what `latest` is tomorrow nobody has tried."""
    images = [service["image"] for service in compose()["services"].values()]
    images += [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    images += [pod["spec"]["containers"][0]["image"] for pod in pods().values()]

    for image in images:
        assert re.search(r":v?\d+\.\d+(\.\d+)?(-[a-z]+)*$", image), image
    assert {version("runware-provider")} == {image.rpartition(":")[2] for image in images if "runware" in image}


def test_the_image_has_the_versions_that_were_tested() -> None:
    """Its lock holds the base's, and the extras'; it is built with the tool of the tests."""
    image, dev = locked(DEPLOY / "requirements-deploy.lock"), locked(ROOT / "requirements-dev.lock")
    base = locked(ROOT / "requirements.lock")

    assert base.items() <= image.items()
    assert {"asyncpg", "pgqueuer", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"} <= set(image)
    assert {name: found for name, found in image.items() if name in dev and dev[name] != found} == {}
    assert locked(DEPLOY / "requirements-build.lock").items() <= dev.items()


def test_the_dockerfile_installs_by_hash_and_runs_as_nobody_in_particular() -> None:
    """Nothing unpinned gets in, and nothing in it needs root or a shell."""
    steps = instructions()
    last = steps[[name for name, _ in steps].index("FROM", 1) :]

    for name, rest in steps:
        for command in rest.split("&&") if name == "RUN" else ():
            if "install" in command and "pip" in command:
                assert "--require-hashes" in command or "--no-index" in command, command
        assert "http" not in rest or name == "HEALTHCHECK"
    assert dict(last)["USER"] == "10001:10001"
    assert dict(last)["STOPSIGNAL"] == "SIGTERM"
    assert f"{PREFIX}DATA_DIR={dict(last)['VOLUME']}" in dict(last)["ENV"]
    assert json.loads(dict(last)["ENTRYPOINT"]) == ["runware-provider"]
    assert PORTS["api"] == parsed(json.loads(dict(last)["CMD"]))["port"]
    assert {str(port) for port in PORTS.values()} == set(dict(last)["EXPOSE"].split())


def test_what_the_dockerfile_copies_is_sent_to_the_builder() -> None:
    """And nothing else is: no key, no state, no history."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        path for name, rest in instructions() if name == "COPY" and "--from" not in rest for path in rest.split()[:-1]
    }

    assert ignored[0] == "*"
    assert allowed == copied
    assert all((ROOT / path).exists() for path in copied)


@pytest.mark.parametrize("role", ROLES)
def test_health_is_asked_where_it_is(role: str) -> None:
    """Ports are the command's own defaults, paths are open to those without a token."""
    service = nodes()["api-1" if role == "api" else role]
    options = parsed(service["command"])
    (container,) = pods()[role]["spec"]["containers"]
    image = json.loads(dict(instructions())["HEALTHCHECK"].partition("CMD ")[2])[-1]
    check = service["healthcheck"]["test"][-1] if "healthcheck" in service else image

    assert PORTS[role] == options["port"]
    assert options["host"] == "0.0.0.0"
    assert f"http://127.0.0.1:{PORTS[role]}/healthz'" in check
    assert service["command"] == container["args"]
    assert [PORTS[role]] == [port["containerPort"] for port in container["ports"]]
    (name,) = (port["name"] for port in container["ports"])
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert container[probe]["httpGet"] == {"path": path, "port": name}
        assert path in OPEN_PATHS


def test_only_the_api_is_reached_from_outside() -> None:
    """The balancer lets clients and Runware through, and keeps what says how much is spent."""
    config = (DEPLOY / "haproxy.cfg").read_text()
    exact = set(re.search(r"acl known path (.+)", config)[1].split())  # type: ignore[index]  # fails when it is None

    assert {WEBHOOK_PATH, "/healthz", "/openapi.json"} == exact
    assert re.findall(r"path_beg (\S+)", config) == ["/v1/"]
    assert re.findall(r"httpchk GET (\S+)", config) == ["/readyz"]
    assert {f"{name}:{PORTS['api']}" for name in nodes() if name.startswith("api")} == set(
        re.findall(r"^ +server \S+ (\S+)", config, re.MULTILINE)
    )
    published = [port for service in compose()["services"].values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_prometheus_reads_every_node_with_a_token() -> None:
    """It looks workers up by name, however many there are."""
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    composed = compose()
    (secret,) = composed["services"]["prometheus"]["secrets"]

    assert f"/run/secrets/{secret}" == job["authorization"]["credentials_file"]
    assert composed["secrets"][secret]["environment"] in asked_of_env()
    apis = {f"{name}:{PORTS['api']}" for name in nodes() if name.startswith("api")}
    assert apis == {target for each in job["static_configs"] for target in each["targets"]}
    assert [(["worker"], PORTS["worker"])] == [(each["names"], each["port"]) for each in job["dns_sd_configs"]]


def test_a_stop_gets_the_time_that_it_takes() -> None:
    """Killed earlier, a node would leave its tasks to others only when its lease is over."""
    assert all(int(service["stop_grace_period"].removesuffix("s")) > STOP_LIMIT for service in nodes().values())
    for path in UNITS:
        if "migrate" not in path.name:
            assert int(unit(path)["Service"]["TimeoutStopSec"]) > STOP_LIMIT
    for role in ROLES:
        spec = pods()[role]["spec"]
        hook = spec["containers"][0].get("lifecycle", {}).get("preStop", {"exec": {"command": ["sleep", "0"]}})
        assert spec["terminationGracePeriodSeconds"] - int(hook["exec"]["command"][1]) > STOP_LIMIT


def test_nodes_start_after_the_schema_is_there() -> None:
    """A node whose database lacks a migration does not start."""
    for name, service in nodes().items():
        if name != "migrate":
            assert service["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert nodes()["migrate"]["command"] == ["migrate"]
    job, *others = (pods()[name]["spec"]["containers"][0] for name in ("migrate", *ROLES))
    assert job["args"] == ["migrate"]
    assert all(other["envFrom"] == job["envFrom"] for other in others)
    assert manifest("Job")["metadata"]["name"].endswith(version("runware-provider").replace(".", "-"))
    for path in UNITS:
        if "@" in path.name:
            assert "runware-provider-migrate.service" in unit(path)["Unit"]["After"].split()
            assert "runware-provider-migrate.service" in unit(path)["Unit"]["Wants"].split()


def test_what_is_selected_is_what_is_labelled() -> None:
    """A service or a deployment without pods would be found only when nobody answers."""
    labels = [pods()[role]["metadata"]["labels"] for role in ROLES]
    (port,) = manifest("Service")["spec"]["ports"]

    assert labels == [each["spec"]["selector"]["matchLabels"] for each in manifests() if each["kind"] == "Deployment"]
    assert manifest("Service")["spec"]["selector"] == labels[0]
    assert manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels[0]
    assert port["targetPort"] in {each["name"] for each in pods()["api"]["spec"]["containers"][0]["ports"]}


@pytest.mark.parametrize("name", ["migrate", *ROLES])
def test_pods_are_locked_down(name: str) -> None:
    """Nobody in particular, and nothing to write to but what is thrown away."""
    spec = pods()[name]["spec"]
    (container,) = spec["containers"]

    assert (spec["securityContext"]["runAsNonRoot"], spec["securityContext"]["runAsUser"]) == (True, 10001)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "/data" in {mount["mountPath"] for mount in container["volumeMounts"]}
    for mount in container["volumeMounts"]:
        assert "emptyDir" in next(each for each in spec["volumes"] if each["name"] == mount["name"])


@pytest.mark.parametrize("name", ["migrate", *ROLES])
def test_the_variables_of_a_service_do_not_stop_a_pod(name: str) -> None:
    """Kubernetes would set them for every Service of the namespace, and the product refuses what it does not know."""
    injected = manifest("Service")["metadata"]["name"].upper().replace("-", "_") + "_SERVICE_HOST"

    with pytest.raises(ConfigurationError, match=injected):
        load_settings({injected: "10.0.0.1"}, NOWHERE)
    assert pods()[name]["spec"]["enableServiceLinks"] is False


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_runs_the_command_as_its_user_in_its_folder(path: Path) -> None:
    """And only its folder can be written to."""
    service = unit(path)["Service"]
    program, *arguments = service["ExecStart"].replace("%i", "8099").split()
    options = parsed(arguments)
    (line,) = (DEPLOY / "systemd" / "runware-provider.sysusers.conf").read_text().splitlines()

    assert program == "/opt/runware-provider/bin/runware-provider"
    assert options.get("host", "127.0.0.1") == "127.0.0.1"
    assert options.get("port") == (8099 if "@" in path.name else {"serve": PORTS["api"]}.get(arguments[0]))
    assert service["User"] == service["Group"] == service["StateDirectory"] == line.split()[1]
    assert service["Environment"] == f"{PREFIX}DATA_DIR=/var/lib/{service['StateDirectory']}"
    assert service["WorkingDirectory"] == f"/var/lib/{service['StateDirectory']}"
    for key in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices"):
        assert service[key] == "yes"
    assert service["ProtectSystem"] == "strict"
