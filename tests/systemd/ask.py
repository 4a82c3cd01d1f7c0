"""python ask.py INSTANCE TIMEOUT ARGV...: ask a daemon once, and print what came of it as JSON."""

import json
import sys

from rootwrap_daemon.client import Client
from rootwrap_daemon.errors import Error

instance, timeout, *argv = sys.argv[1:]
try:
    # A manager holds the socket of a daemon that does not start yet: whoever asks waits as long as he likes.
    with Client(f"/run/rootwrap-daemon/{instance}.sock", connect_timeout=float(timeout)) as client:
        done = client.run(argv, text=True, timeout=float(timeout))
    print(json.dumps({"returncode": done.returncode, "stdout": done.stdout, "stderr": done.stderr}))
except Error as error:
    print(json.dumps({"error": error.code, "message": str(error)}))
