"""The files in `deploy/` agree with the product: settings, ports, paths, and users. No container is run."""

import configparser
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runware_provider.settings import Settings, variable

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".lock")
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SETTING = re.compile(r"\bRUNWARE_(?:API_KEY|PROVIDER_[A-Z0-9_]+)")


def compose() -> dict[str, Any]:
    """The services."""
    services: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return services


def objects() -> list[dict[str, Any]]:
    """Kubernetes' objects."""
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / "runware-provider.yaml").read_text()))


def pods() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name, pod and its container, of everything that runs."""
    for each in objects():
        if "template" in each.get("spec", {}):
            pod = each["spec"]["template"]["spec"]
            yield each["metadata"]["name"], pod, pod["containers"][0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_setting_is_one(path: Path) -> None:
    """A name that is not known would stop the start."""
    known = {variable(name) for name in Settings.model_fields}

    assert set(SETTING.findall(path.read_text())) <= known


def test_every_image_has_a_fixed_tag() -> None:
    """What runs tomorrow is what was looked at today."""
    images = [service["image"] for service in compose().values() if "image" in service]
    images += [container["image"] for _, _, container in pods()]
    images += re.findall(r"^FROM (\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)

    assert [image for image in images if not re.search(r":v?\d+\.\d+(\.\d+)?[\w.-]*$", image)] == []
    assert len(images) >= 8


def test_the_container_is_nobody_and_ends_in_time() -> None:
    """Not root, nothing to write to but its data, and more time to stop than a stop takes."""
    text = (DEPLOY / "Dockerfile").read_text()
    assert text.count("\nUSER 10001:10001\n") == 1
    assert "--require-hashes" in text
    assert 'ENTRYPOINT ["runware-provider"]' in text
    for name in ("api-1", "api-2", "worker", "migrate"):
        service = compose()[name]
        assert (service["read_only"], service["cap_drop"], service["stop_grace_period"]) == (True, ["ALL"], "15s"), name
    for name, pod, container in pods():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert container["securityContext"]["readOnlyRootFilesystem"], name
        assert pod.get("terminationGracePeriodSeconds", 30) >= 15, name


def test_roles_ports_and_paths_are_the_products() -> None:
    """Two APIs and two workers after the migration; probes ask what there is."""
    services = compose()
    assert services["api-1"]["command"] == services["api-2"]["command"] == ["serve", "--no-worker", "--host", "0.0.0.0"]
    assert services["worker"]["command"] == ["worker", "--host", "0.0.0.0"]
    assert services["worker"]["deploy"]["replicas"] == 2
    for name in ("api-1", "api-2", "worker"):
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}, name
    ports = {name: container["ports"][0]["containerPort"] for name, _, container in pods() if "ports" in container}
    assert ports == {"runware-provider-api": 8080, "runware-provider-worker": 8081}
    for name, _, container in pods():
        if "ports" in container:
            assert container["livenessProbe"]["httpGet"]["path"] == "/healthz", name
            assert container["readinessProbe"]["httpGet"]["path"] == "/readyz", name


def test_what_is_selected_is_what_is_labelled() -> None:
    """A service without a pod, or a deployment without one, would be found only when nobody answers."""
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for each in objects():
        by_kind.setdefault(each["kind"], []).append(each)
    labels = []
    for deployment in by_kind["Deployment"]:
        wanted = deployment["spec"]["selector"]["matchLabels"]
        assert deployment["spec"]["template"]["metadata"]["labels"] == wanted
        labels.append(wanted)
    for each in (*by_kind["Service"], *by_kind["PodDisruptionBudget"]):
        selector = each["spec"]["selector"]
        assert selector.get("matchLabels", selector) in labels


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_run_the_command_as_their_own_user(path: Path) -> None:
    """And restart it, and give it time."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # as configparser documents it
    unit.read_string(path.read_text())
    service = unit["Service"]

    assert service["ExecStart"].startswith("/opt/runware-provider/bin/runware-provider ")
    assert (service["User"], service["UMask"], service["NoNewPrivileges"]) == ("runware-provider", "0077", "yes")
    if service["Type"] != "oneshot":
        assert (service["Restart"], service["TimeoutStopSec"]) == ("always", "15")


def test_the_example_environment_is_what_compose_asks_for() -> None:
    """No more, no less."""
    asked = set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text()))
    given = set(re.findall(r"^(\w+)=", (DEPLOY / "example.env").read_text(), re.MULTILINE))

    assert asked == given
