"""Shows the links of every network namespace of the service's, with native threads.

    python -m examples.threaded --socket /run/rootwrap-daemon/rootwrap-daemon.sock [--prefix na-]

Runs as any user that the daemon answers, with the filters etc/rootwrap-daemon/filters.d/netns-agent.filters.
"""

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor

from rootwrap_daemon.client import Client
from rootwrap_daemon.errors import DaemonUnavailable, Error


def links(client: Client, namespace: str) -> list[str]:
    """A line for each link, or one that says why there is none."""
    try:
        done = client.run(["ip", "-n", namespace, "-j", "address", "show"], timeout=10, check=True)
    except DaemonUnavailable:
        raise
    except Error as error:
        # One namespace's trouble, gone meanwhile for example.
        return [f"{namespace}: {error}"]
    return [f"{namespace}: {link['ifname']} {link['operstate']}" for link in json.loads(done.stdout)]


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description="Show the links of every namespace.")
    parser.add_argument("--socket", default="/run/rootwrap-daemon/rootwrap-daemon.sock")
    parser.add_argument("--prefix", default="na-", help="of the names of the namespaces to look into")
    parser.add_argument("--threads", type=int, default=8)
    options = parser.parse_args()
    # One client for all threads: it keeps a connection for each command that runs at the same time.
    with Client(options.socket) as client, ThreadPoolExecutor(options.threads) as pool:
        try:
            found = client.run(["ip", "-j", "netns", "list"], timeout=10, check=True)
            # With no namespace at all some versions of ip write nothing.
            names = sorted(entry["name"] for entry in json.loads(found.stdout or "[]"))
            wanted = [name for name in names if name.startswith(options.prefix)]
            for lines in pool.map(lambda name: links(client, name), wanted):
                print(*lines, sep="\n")
        except Error as error:
            print(f"threaded: {error}", file=sys.stderr)
            return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
