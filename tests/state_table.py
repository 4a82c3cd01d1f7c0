"""The state that a command has by its filter: filters for every pair of options, and a table for them.

The command is a shell that runs LOOK, which prints what it finds around itself; `wrong` holds that against
the table and the state of the daemon.
"""

import grp
import itertools
import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Final

Case = dict[str, str]

NET_ADMIN, NET_RAW = 1 << 12, 1 << 13
OPTIONS: Final[dict[str, tuple[str, ...]]] = {
    "user": ("root", "nobody"),
    "group": ("", "daemon"),
    "capabilities": ("", "none", "CAP_NET_ADMIN, CAP_NET_RAW"),
    "ambient": ("", "none", "CAP_NET_RAW"),
    "no_new_privs": ("", "yes", "no"),
    "limits": ("", "nofile=100", "core=0, cpu=7, fsize=4096"),
    "umask": ("", "0077"),
    "cwd": ("", "/usr/bin"),
    "set_env": ("", "TAG=a b"),
}
SETS: Final = {"none": 0, "CAP_NET_RAW": NET_RAW, "CAP_NET_ADMIN, CAP_NET_RAW": NET_ADMIN | NET_RAW}
LIMITS: Final = {
    "nofile": "Max open files",
    "core": "Max core file size",
    "cpu": "Max cpu time",
    "fsize": "Max file size",
}
LOOK: Final = r"""
tr '\0' '\n' < /proc/$$/environ | sed 's/^/env /'
while IFS= read -r line; do echo "$line"; done < /proc/$$/status
cat /proc/$$/limits
for name in timerslack_ns oom_score_adj coredump_filter personality
do echo "own $name $(cat /proc/$$/$name)"; done
echo "umask $(umask)"
echo "cwd $(readlink /proc/$$/cwd)"
for one in /proc/$$/fd/*; do echo "fd ${one##*/}"; done
echo "stat $(cut -d')' -f2 < /proc/$$/stat)"
"""


def possible(case: Case) -> bool:
    """True for what a filter may say: capabilities are root's, ambient ones another user's."""
    user = case.get("user")
    return not (
        (case.get("capabilities") and user == "nobody")
        or (case.get("ambient") and user == "root")
        or (case.get("capabilities") and case.get("ambient"))
    )


def pairwise() -> Iterator[Case]:
    """Cases in which each value of an option meets each of every other, where the two are possible."""
    every = [(name, value) for name, values in OPTIONS.items() for value in values]
    wanted = {(a, b) for a, b in itertools.combinations(every, 2) if a[0] != b[0] and possible(dict((a, b)))}
    while wanted:
        chosen = dict(min(wanted))
        for name, values in OPTIONS.items():
            if name not in chosen:
                able = [chosen | {name: value} for value in values]
                chosen = max(filter(possible, able), key=lambda one: len(_pairs(one) & wanted))
        # A pair that is possible alone can be impossible with every user.
        wanted -= _pairs(chosen) | {min(wanted)}
        yield chosen


def _pairs(case: Case) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    return set(itertools.combinations([(name, case[name]) for name in OPTIONS if name in case], 2))


CASES: Final = {f"case{number}": case for number, case in enumerate(pairwise())}


def filters(look: str) -> str:
    """A filter for each case, by its name as the last word; `look`: where LOOK is."""
    lines = ["[Filters]\n"]
    for name, case in CASES.items():
        options = "".join(f"{key} = {value}\n" for key, value in case.items() if key != "user" and value)
        lines.append(f"[Filters]\n{name}: RegExpFilter, sh, {case['user']}, sh, {look}, {name}\n")
        lines.append(f"[{name}]\n{options}" if options else "")
    return "".join(lines)


def status_of(text: str) -> dict[str, str]:
    """The fields of a /proc/PID/status."""
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def limits_of(text: str) -> dict[str, list[str]]:
    """Soft and hard limits by their names in /proc/PID/limits."""
    return {line[:26].strip(): line[26:].split()[:2] for line in text.splitlines() if line.startswith("Max ")}


def wrong(
    case: Case, said: str, status: dict[str, str], limits: dict[str, list[str]], path: str
) -> list[str]:
    """What differs from the table; `status` and `limits` are the daemon's, `path` its exec_dirs."""
    found, user = status_of(said), pwd.getpwnam(case["user"])
    gid = grp.getgrnam(case["group"]).gr_gid if case["group"] else user.pw_gid
    is_root = user.pw_uid == 0
    bounding = int(status["CapBnd"], 16) & SETS.get(case["capabilities"] or case["ambient"], -1)
    ambient = bounding if case["ambient"] else 0
    no_new_privs = {"yes": 1, "no": 0, "": int(not is_root)}[case["no_new_privs"]]
    wanted: dict[str, object] = {
        "Uid": [user.pw_uid] * 4,
        "Gid": [gid] * 4,
        "Groups": sorted({gid, *os.getgrouplist(case["user"], gid)}),
        "CapBnd": bounding,
        "CapPrm": bounding if is_root else ambient,
        "CapEff": bounding if is_root else ambient,
        "CapInh": ambient,
        "CapAmb": ambient,
        "NoNewPrivs": max(no_new_privs, int(status["NoNewPrivs"])),
        "SigBlk": 0,
        "SigIgn": 0,
        "limits": limits
        | {LIMITS[one.split("=")[0]]: [one.split("=")[1]] * 2 for one in _words(case["limits"])},
        "umask": case["umask"] or "0022",
        "cwd": case["cwd"] or "/",
        # 10 is the script itself, 3 the directory in which the shell looks for them.
        "fd": {"0", "1", "2", "3", "10"},
    }
    environ = dict(line[4:].split("=", 1) for line in said.splitlines() if line.startswith("env "))
    home = environ.pop("HOME", None)
    wanted["env"] = {
        "PATH": path,
        "LANG": "C.UTF-8",
        "USER": case["user"],
        "LOGNAME": case["user"],
        **dict(one.split("=") for one in _words(case["set_env"])),
    }
    lines = [line.partition(" ") for line in said.splitlines()]
    seen: dict[str, object] = {
        **{name: [int(one) for one in found[name].split()] for name in ("Uid", "Gid")},
        "Groups": sorted(map(int, found["Groups"].split())),
        **{name: int(found[name], 16) for name in ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb")},
        **{name: int(found[name], 16) for name in ("NoNewPrivs", "SigBlk", "SigIgn")},
        "limits": limits_of(said),
        "umask": next(rest for word, _, rest in lines if word == "umask"),
        "cwd": next(rest for word, _, rest in lines if word == "cwd"),
        "fd": {rest for word, _, rest in lines if word == "fd"},
        "env": environ,
    }
    differs = [f"{key}: {seen[key]} is not {wanted[key]}" for key in wanted if seen[key] != wanted[key]]
    if home not in (user.pw_dir, "/", "/nonexistent"):
        differs.append(f"HOME: {home}")
    # It leads a session and a process group of its own, and has no terminal: proc_pid_stat(5).
    fields = next(rest for word, _, rest in lines if word == "stat").split()
    if not fields[2] == fields[3] == found["Pid"].strip() or fields[4] != "0":
        differs.append(f"session: {fields[2:5]} of {found['Pid']}")
    return differs


def _words(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


def daemon_state(pid: int) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Status and limits of a daemon."""
    own = Path(f"/proc/{pid}")
    return status_of((own / "status").read_text()), limits_of((own / "limits").read_text())
