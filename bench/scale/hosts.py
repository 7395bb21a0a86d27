"""Hosts of our own on this machine: network namespaces with links that can be taken down. Needs root and `ip`."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import ClassVar

NAME = f"br{os.getpid() % 100000}"  # of everything we make, so that runs do not meet


def possible() -> str:
    """Why it cannot be done here; empty when it can."""
    if shutil.which("ip") is None:
        return "needs iproute2 (`ip`)"
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    made = subprocess.run(["ip", "netns", "add", f"{NAME}t"], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"network namespaces cannot be made here: {made.stderr.strip()}"
    _ip("netns", "del", f"{NAME}t")
    return ""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Hosts:
    """Two networks, `out` (10.77.0.0/24: the internet) and `db` (10.78.0.0/24: the database's), and hosts on both of them.

    This process is on both too, as .1: it is the EHR, WhatsApp, the load balancer and the judge. Use as a context manager.
    """

    NETS: ClassVar = {"out": "10.77.0", "db": "10.78.0"}

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def __enter__(self) -> Hosts:
        for net, prefix in self.NETS.items():
            _ip("link", "add", f"{NAME}{net}", "type", "bridge")
            _ip("addr", "add", f"{prefix}.1/24", "dev", f"{NAME}{net}")
            _ip("link", "set", f"{NAME}{net}", "up")
        for name in self.names:
            space = f"{NAME}{name}"
            _ip("netns", "add", space)
            _ip("-n", space, "link", "set", "lo", "up")
            for net in self.NETS:
                here = self._link(name, net)
                _ip("link", "add", here, "type", "veth", "peer", "name", net, "netns", space)
                _ip("link", "set", here, "master", f"{NAME}{net}")
                _ip("link", "set", here, "up")
                _ip("-n", space, "addr", "add", f"{self.address(name, net)}/24", "dev", net)
                _ip("-n", space, "link", "set", net, "up")
        return self

    def _link(self, name: str, net: str) -> str:
        return f"{NAME}{name}{net[0]}"  # 15 characters at most

    def address(self, name: str, net: str) -> str:
        return f"{self.NETS[net]}.{10 + self.names.index(name)}"

    def before(self, name: str) -> tuple[str, ...]:
        """What to put before a command that is to run there."""
        return ("ip", "netns", "exec", f"{NAME}{name}")

    def cut(self, name: str, net: str) -> None:
        """The cable is pulled: bytes vanish, nobody is told."""
        _ip("link", "set", self._link(name, net), "down")

    def heal(self, name: str, net: str) -> None:
        _ip("link", "set", self._link(name, net), "up")

    def __exit__(self, *_: object) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", f"{NAME}{name}"], check=False, capture_output=True)
            for net in self.NETS:
                subprocess.run(["ip", "link", "del", self._link(name, net)], check=False, capture_output=True)
        for net in self.NETS:
            subprocess.run(["ip", "link", "del", f"{NAME}{net}"], check=False, capture_output=True)
