"""A stand-in for docker, docker-compose and nsenter, installed on PATH under those names.

It records every command line. For docker it also keeps the state of containers, as `docker inspect` would show it, in
``engine.json``, in the folder named by STAND_IN. Other answers are in ``answers.json`` there.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["STAND_IN"])
ENGINE, ANSWERS, CALLS = (FOLDER / name for name in ("engine.json", "answers.json", "calls.jsonl"))

STATES = {"kill": "exited", "pause": "paused", "unpause": "running", "restart": "running"}


def main(program: str, words: list[str]) -> int:
    """Record the call, carry it out or answer it as configured, and return the exit code."""
    script = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    with CALLS.open("a") as calls:
        calls.write(json.dumps({"words": [program, *words], "script": script}) + "\n")
    for answer in json.loads(ANSWERS.read_text()):
        if " ".join([program, *words]).startswith(answer["to"]):
            time.sleep(answer.get("after_s", 0))
            print(answer.get("stdout", ""), end="")
            print(answer.get("stderr", ""), end="", file=sys.stderr)
            return int(answer.get("code", 0))
    containers = json.loads(ENGINE.read_text())
    carry_out(containers, words)
    ENGINE.write_text(json.dumps(containers))
    return 0


def carry_out(containers: list[dict[str, Any]], words: list[str]) -> None:
    """Do what the engine would do, as far as `inspect` shows it."""
    if words[0] == "ps":
        print("\n".join(container["Id"] for container in containers))
    elif words[0] == "inspect":
        print(json.dumps([container for container in containers if container["Id"] in words]))
    elif words[0] in STATES:
        change(containers, words[-1], STATES[words[0]])
    elif words[:2] == ["network", "disconnect"]:
        named(containers, words[-1])["NetworkSettings"]["Networks"].pop(words[-2])
    elif words[:2] == ["network", "connect"]:
        container = named(containers, words[-1])
        container["NetworkSettings"]["Networks"][words[-2]] = {"IPAddress": container["Address"]}


def change(containers: list[dict[str, Any]], name: str, state: str) -> None:
    """Change a container's state, pid and addresses."""
    container, ended = named(containers, name), state == "exited"
    container["State"] = {"Status": state, "Pid": 0 if ended else container["ItsPid"]}
    for network in container["NetworkSettings"]["Networks"].values():
        network["IPAddress"] = "" if ended else container["Address"]


def named(containers: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the container with this id."""
    return next(container for container in containers if container["Id"] == name)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[0]).name, sys.argv[1:]))
