"""python callers.py INSTANCE FILE COUNT: so many threads ask, again and again, to append a word to FILE.

Ends when its standard input does, and prints {word: outcome} as JSON.
"""

import json
import sys
import threading
import time

from rootwrap_daemon.client import Client
from rootwrap_daemon.errors import Error

instance, file, count = sys.argv[1:]
outcomes: dict[str, str] = {}
stop = threading.Event()


def call(client: Client, number: int) -> None:
    turn = 0
    while not stop.is_set():
        word = f"{number}-{turn}"
        turn += 1
        try:
            client.run(["tee", "-a", file], input=f"{word}\n".encode(), check=True, timeout=60)
            outcomes[word] = "done"
        except (Error, OSError) as error:
            outcomes[word] = f"{type(error).__name__}: {error}"
        # A service has something else to do, too; and this machine has few processors.
        time.sleep(0.05)


with Client(f"/run/rootwrap-daemon/{instance}.sock") as client:
    threads = [threading.Thread(target=call, args=(client, number)) for number in range(int(count))]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
print(json.dumps(outcomes))
