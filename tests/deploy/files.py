"""What lies in `deploy/`, read as those read it who will run it."""

import configparser
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
import yaml

from runware_provider.cli.app import app

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes" / "runware-provider.yaml"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))

JsonObject = dict[str, Any]

_VARIABLE = re.compile(r"\$\{(\w+):\?[^}]*\}")


def compose(**values: str) -> JsonObject:
    """compose.yaml, with what `.env` has to say filled in: a name without a value in `values` stands for itself."""
    text = _VARIABLE.sub(lambda match: values.get(match[1], match[1]), (DEPLOY / "compose.yaml").read_text())
    content: JsonObject = yaml.safe_load(text)
    return content


def asked_of_env() -> set[str]:
    """The names without which compose.yaml does not start."""
    return set(_VARIABLE.findall((DEPLOY / "compose.yaml").read_text()))


def nodes() -> dict[str, JsonObject]:
    """The services of compose.yaml that run the product."""
    services: dict[str, JsonObject] = compose()["services"]
    return {name: service for name, service in services.items() if "build" in service}


def manifests() -> list[JsonObject]:
    """Every object of the Kubernetes example."""
    return list(yaml.safe_load_all(KUBERNETES.read_text()))


def manifest(kind: str) -> JsonObject:
    """The only one of its kind."""
    (found,) = (each for each in manifests() if each["kind"] == kind)
    return found


def pods() -> dict[str, JsonObject]:
    """What runs, by what it is called: its pods, as their template has them."""
    return {
        each["spec"]["template"]["spec"]["containers"][0]["name"]: each["spec"]["template"]
        for each in manifests()
        if "template" in each.get("spec", {})
    }


def unit(path: Path) -> configparser.ConfigParser:
    """A systemd unit. Fails when a key of it stands there twice, but for `Environment`."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as configparser's own documentation has it
    parser.read_string(path.read_text())
    return parser


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, each in one line."""
    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    return [(name, " ".join(rest.split())) for name, _, rest in (line.partition(" ") for line in lines if line)]


def parsed(arguments: list[str]) -> Mapping[str, Any]:
    """What the command makes of its arguments. Fails when it would refuse them."""
    group: Any = typer.main.get_command(app)
    parameters: Mapping[str, Any] = group.commands[arguments[0]].make_context(arguments[0], arguments[1:]).params
    return parameters


def locked(path: Path) -> dict[str, str]:
    """The packages of a lock file and their versions."""
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^ ]+)", path.read_text(), re.MULTILINE))
