"""Make the Secrets that deploy/k8s/base refers to: each service gets its own keys and no others.

    openssl rand -hex 32 > master
    python deploy/k8s/make_secrets.py --master master --database-url postgresql://… | kubectl apply -n headrace -f -

The same master gives the same Secrets. Keep it: without it, running work of this installation cannot go on.
"""

import argparse
import json
import sys
from pathlib import Path

from headrace.dev.children import INTEGRATIONS, OWNERS, POOLS
from headrace.keys import BLOBS, COMMANDS, POOL, Keys
from headrace.vocabulary import POOL_RUNNER


def secrets(master: str, database_url: str, migrate_url: str) -> dict[str, dict[str, str]]:
    """Give the content of each Secret by its name."""
    keys = Keys(master=bytes.fromhex(master))

    def given(*labels: str) -> str:
        return ",".join(f"{label}={keys.key(label).hex()}" for label in labels)

    database = {"HEADRACE_DATABASE_URL": database_url}
    return {
        "headrace-master": {"secret": master},
        "headrace-migrate": {"HEADRACE_DATABASE_URL": migrate_url},
        **{f"headrace-{owner}": dict(database) for owner in sorted(OWNERS)},
        "headrace-api": {**database, "HEADRACE_KEYS": given(COMMANDS, BLOBS, *(POOL + pool for pool in POOLS))},
        "headrace-runner": {"HEADRACE_KEYS": given(POOL + POOL_RUNNER)},
        "headrace-integrations": {"HEADRACE_KEYS": given(POOL + INTEGRATIONS)},
    }


def main() -> None:
    """Print them as a List that kubectl takes."""
    parser = argparse.ArgumentParser(description="Make the Secrets that deploy/k8s/base refers to.")
    parser.add_argument("--master", type=Path, required=True, help="file with at least 32 bytes as hex digits")
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--migrate-url", help="the database as a role that may create tables; else the same")
    told = parser.parse_args()
    made = secrets(told.master.read_text().strip(), told.database_url, told.migrate_url or told.database_url)
    items = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "Opaque", "stringData": data}
        for name, data in made.items()
    ]
    json.dump({"apiVersion": "v1", "kind": "List", "items": items}, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
