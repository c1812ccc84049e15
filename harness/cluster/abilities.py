"""What this kernel can and cannot do, tried out in a node: a refusal becomes "not supported here", never a failure.

Each probe makes the real thing in a network namespace of its own that ends with it. The list is that of what the
faults and the mail stack ask for.
"""

from __future__ import annotations

from harness.cluster.engine import Engine

#: ability → shell command that succeeds where the kernel has it
PROBES = {
    "netem": "unshare -n tc qdisc add dev lo root netem delay 1ms",
    "tbf": "unshare -n tc qdisc add dev lo root tbf rate 1mbit burst 32kbit latency 400ms",
    "dummy-interface": "unshare -n ip link add mg0 type dummy",
    "ipvlan": "unshare -n bash -c 'ip link add mg0 type veth peer name mg1 && ip link add link mg0 name mg2 type ipvlan mode l2'",
    "macvlan": "unshare -n bash -c 'ip link add mg0 type veth peer name mg1 && ip link add link mg0 name mg2 type macvlan'",
    "vxlan": "unshare -n ip link add mg0 type vxlan id 7 dstport 4789",
    "iptables-statistic": "unshare -n iptables -A INPUT -m statistic --mode random --probability 0.5 -j DROP",
    "iptables-connlimit": "unshare -n iptables -A INPUT -p tcp --syn -m connlimit --connlimit-above 9 -j REJECT",
    "iptables-hashlimit": "unshare -n iptables -A INPUT -m hashlimit --hashlimit-above 9/sec --hashlimit-name mg -j DROP",
    "iptables-string": "unshare -n iptables -A INPUT -m string --algo bm --string x -j DROP",
    "iptables-notrack": "unshare -n iptables -t raw -A PREROUTING -j CT --notrack",
    "nftables": "unshare -n nft add table inet mg",
    "device-mapper": "test -c /dev/mapper/control && grep -qw device-mapper /proc/misc",
    "loop-devices": "test -c /dev/loop-control && losetup -f",
    "nfs": "grep -qw nfs4 /proc/filesystems",
    "iscsi": "test -d /sys/class/iscsi_transport",
    "fuse": "test -c /dev/fuse && grep -qw fuse /proc/filesystems",
    "cpu-quotas": "test -e /sys/fs/cgroup/cpu/cpu.cfs_quota_us || test -e /sys/fs/cgroup/kubelet/cpu.max",
}
_PROBE_S = 60


def script(probes: dict[str, str] | None = None) -> str:
    """Shell text that prints ``ability<TAB>ok`` or ``ability<TAB>what it said`` for each probe."""
    lines = [
        f"said=$( ( {command} ) 2>&1 > /dev/null ) && printf '{name}\\tok\\n' || printf '{name}\\tno %s\\n' \"$(printf %s \"$said\" | tail -n 1)\""
        for name, command in (PROBES if probes is None else probes).items()
    ]
    return "\n".join([*lines, ""])


def unsupported(answers: str) -> dict[str, str]:
    """Ability → what was said, for every probe that did not succeed."""
    pairs = (line.split("\t", 1) for line in answers.splitlines() if "\t" in line)
    return {name: said.removeprefix("no").strip() or "this kernel has none" for name, said in pairs if said != "ok"}


def probe(engine: Engine, node: str) -> dict[str, str]:
    """What the kernel under ``node`` lacks: ability → what it said.

    :raises CommandFailed: the node does not answer.
    """
    return unsupported(engine.docker("exec", "-i", node, "bash", "-s", input=script(), timeout_s=_PROBE_S).stdout)
