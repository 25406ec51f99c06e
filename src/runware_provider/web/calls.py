"""The same request as a program would make it: for curl and for Python's own library."""

import json
from collections.abc import Mapping
from pprint import pformat
from shlex import quote

from runware_provider.types import JsonObject

TOKEN = "RUNWARE_PROVIDER_TOKEN"  # noqa: S105  the name of a variable
"""The variable that a client keeps its token in; the token itself stands nowhere."""


def curl(url: str, input: JsonObject, metadata: Mapping[str, str], *, token: bool) -> str:
    """A command line."""
    body = json.dumps(_body(input, metadata), ensure_ascii=False, indent=2)
    lines = [f"curl {quote(url)}", "-H 'Content-Type: application/json'"]
    if token:
        lines.append(f'-H "Authorization: Bearer ${TOKEN}"')
    return " \\\n  ".join([*lines, f"-d {quote(body)}"])


def python(url: str, input: JsonObject, metadata: Mapping[str, str], *, token: bool) -> str:
    """A program that prints the new generation's id."""
    headers = '{"Content-Type": "application/json"}'
    if token:
        headers = f'{{"Content-Type": "application/json", "Authorization": f"Bearer {{os.environ[\'{TOKEN}\']}}"}}'
    body = pformat(_body(input, metadata), sort_dicts=False, width=88)
    modules = "import json\nimport os\nimport urllib.request" if token else "import json\nimport urllib.request"
    return (
        f"{modules}\n\nbody = {body}\nheaders = {headers}\n"
        f"request = urllib.request.Request({url!r}, json.dumps(body).encode(), headers)\n"
        'with urllib.request.urlopen(request) as answer:\n    print(json.load(answer)["id"])\n'
    )


def _body(input: JsonObject, metadata: Mapping[str, str]) -> JsonObject:
    return {"input": input, "metadata": dict(metadata)} if metadata else {"input": input}
