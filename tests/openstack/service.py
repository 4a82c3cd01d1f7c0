"""What a neutron agent does, with neutron's own code, unchanged: run by the tests as an unprivileged user.

Usage: service.py NEUTRON_CONF NAMESPACE DEVICE. Prints what it saw as JSON.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from neutron.agent.common import async_process
from neutron.agent.linux import ip_lib, utils
from neutron.common import utils as common_utils
from neutron.conf.agent import common as agent_config
from neutron_lib import exceptions
from oslo_config import cfg
from oslo_log import log as logging


def setup(conf: str) -> None:
    """As neutron's agents begin."""
    logging.register_options(cfg.CONF)
    agent_config.register_root_helper(cfg.CONF)
    cfg.CONF(["--config-file", conf], project="neutron")
    logging.setup(cfg.CONF, "neutron", fix_eventlet=False)
    agent_config.setup_privsep()


def through_root_helper(namespace: str) -> dict[str, Any]:
    """`execute`, as old drivers call it: by root_helper, or by root_helper_daemon where that is set."""
    seen: dict[str, Any] = {}
    utils.execute(["ip", "netns", "add", namespace], run_as_root=True)
    utils.execute(["ip", "-n", namespace, "link", "set", "lo", "up"], run_as_root=True)
    seen["listed"] = namespace in utils.execute(["ip", "netns", "list"], run_as_root=True).split()
    seen["links"] = json.loads(utils.execute(["ip", "-n", namespace, "-j", "link"], run_as_root=True))
    for name, cmd in {"denied": ["sh", "-c", "id"], "failed": ["ip", "link", "show", "unheard-of"]}.items():
        try:
            utils.execute(cmd, run_as_root=True, log_fail_as_error=False)
        except exceptions.ProcessExecutionError as error:
            seen[name] = error.returncode
    utils.execute(["ip", "netns", "delete", namespace], run_as_root=True)
    seen["deleted"] = namespace not in utils.execute(["ip", "netns", "list"], run_as_root=True).split()
    return seen


def through_privsep(namespace: str, device: str) -> dict[str, Any]:
    """`ip_lib`, as agents of today call it: all of it in oslo.privsep's contexts."""
    seen: dict[str, Any] = {}
    inside = ip_lib.IPWrapper().ensure_namespace(namespace)
    seen["listed"] = namespace in ip_lib.list_network_namespaces()
    # Not a dummy: not every kernel has those.
    link, peer = inside.add_veth(device, f"{device}p", namespace)
    for one in (link, peer):
        one.link.set_up()
    link.addr.add("192.0.2.1/24")
    link.route.add_gateway("192.0.2.254")
    seen["addresses"] = [address["cidr"] for address in link.addr.list(scope="global")]
    seen["gateway"] = link.route.get_gateway()["via"]
    seen["devices"] = sorted(one.name for one in inside.get_devices())
    seen["executed"] = f" {device}@" in inside.netns.execute(["ip", "-o", "link"], run_as_root=True)
    link.link.delete()
    seen["left"] = [one.name for one in inside.get_devices()]
    ip_lib.delete_network_namespace(namespace)
    seen["deleted"] = namespace not in ip_lib.list_network_namespaces()
    return seen


def async_processes(namespace: str) -> dict[str, Any]:
    """`AsyncProcess`: started, found active, read from, stopped; in a namespace and outside."""
    seen: dict[str, Any] = {}
    monitor = async_process.AsyncProcess(["ip", "-o", "monitor", "link"], run_as_root=True)
    monitor.start(block=True)
    seen["active"] = monitor.is_active()
    seen["pid is not ours"] = monitor.pid != str(os.getpid())
    ip_lib.create_network_namespace(namespace)
    sleep = async_process.AsyncProcess(["sleep", "600"], run_as_root=True, namespace=namespace)
    sleep.start(block=True)
    seen["active in the namespace"] = sleep.is_active()
    sleep.stop(block=True, kill_signal=15)
    seen["stopped in the namespace"] = sleep._process.wait(60)
    # A veth whose one end is outside: what a monitor sees.
    outer = f"o{os.getpid()}"
    ip_lib.IPWrapper().add_veth(outer, f"i{os.getpid()}", namespace2=namespace)
    lines: list[str] = []

    def read() -> bool:
        lines.extend(monitor.iter_stdout())
        return any(outer in line for line in lines)

    common_utils.wait_until_true(read, timeout=60, sleep=0.1)
    seen["read"] = True
    ip_lib.IPWrapper().del_veth(outer)
    ip_lib.delete_network_namespace(namespace)
    monitor.stop(block=True)
    seen["stopped"] = monitor._process.wait(60)
    seen["inactive"] = not monitor.is_active()
    return seen


def main() -> None:
    conf, namespace, device = sys.argv[1:]
    setup(conf)
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    seen = {
        "uid": os.getresuid(),
        "no_new_privs": status["NoNewPrivs"].strip(),
        "capabilities": int(status["CapPrm"], 16) | int(status["CapAmb"], 16),
        "root_helper": through_root_helper(namespace),
        "privsep": through_privsep(namespace, device),
        "async": async_processes(namespace),
    }
    print(json.dumps(seen))
    sys.stdout.flush()
    # neutron's watchers of standard streams are threads that wait for their ends.
    os._exit(0)


if __name__ == "__main__":
    main()
