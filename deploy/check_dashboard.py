"""Checks deploy/dashboard.json with Grafana's foundation SDK, which knows the schema of dashboards and panels.

What the SDK reads and writes again must have all that the file has: a key that is misspelt, or not of the schema, is lost.
"""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard


def lost(written, read, path=""):
    """Paths of the values that differ after reading, except for defaults that were added."""
    if isinstance(written, dict) and isinstance(read, dict):
        for key, value in written.items():
            if key not in read:
                yield f"{path}.{key}"
            else:
                yield from lost(value, read[key], f"{path}.{key}")
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for index, (one, other) in enumerate(zip(written, read)):
            yield from lost(one, other, f"{path}[{index}]")
    elif written != read:
        yield f"{path}: {written!r} became {read!r}"


def main():
    file = Path(__file__).with_name("dashboard.json")
    written = json.loads(file.read_text())
    register_default_plugins()
    dashboard = Dashboard.from_json(written)
    read = json.loads(JSONEncoder().encode(dashboard))
    problems = list(lost(written, read))
    ids = [panel["id"] for panel in written["panels"]]
    if len(set(ids)) != len(ids):
        problems.append("panels have the same id")
    for panel in written["panels"]:
        grid = panel["gridPos"]
        if grid["x"] + grid["w"] > 24:
            problems.append(f"{panel['title']} is wider than the page")
    for problem in problems:
        print(f"{file.name}: {problem}", file=sys.stderr)
    print(f"{file.name}: {len(ids)} panels, schema {written['schemaVersion']}")
    return 1 if problems or not ids else 0


if __name__ == "__main__":
    sys.exit(main())
