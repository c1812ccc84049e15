"""An OCI runtime that asks for no capability this machine lacks, then becomes runc.

``docker run --privileged`` and ``docker exec --privileged`` ask for every capability the engine knows. Where the
bounding set of the machine lacks one (nested containers, sandboxes, some CI), runc refuses with "unable to apply caps".
This program takes what the kernel does not grant (``CapBnd`` in /proc/self/status, see capabilities(7)) out of
``<bundle>/config.json`` (``--bundle``, ``-b``) and of the process file (``--process``, ``-p``), each written as
``--x Y`` or ``--x=Y``, and executes runc with unchanged arguments. It fails loudly (exit 1, a sentence on standard
error, which the engine shows) rather than start a container with a file it could not read or write.
Standard library only: the engine outlives the environment that registered it.
"""

import json
import os
import shutil
import sys

NAMES = ["CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE"]
OPTIONS = {"--bundle": "bundle", "-b": "bundle", "-bundle": "bundle", "--process": "process", "-p": "process", "-process": "process"}


def granted(status: str) -> set[str]:
    """Names of the capabilities in the bounding set of a /proc/PID/status text."""
    for line in status.splitlines():
        if line.startswith("CapBnd:"):
            mask = int(line.split()[1], 16)
            return {f"CAP_{name}" for bit, name in enumerate(NAMES) if mask >> bit & 1}
    raise ValueError("no CapBnd line in /proc/self/status")


def files(arguments: list[str]) -> list[tuple[str, str]]:
    """(kind, value) of every bundle and process option, in either spelling."""
    found = []
    for word, following in zip(arguments, [*arguments[1:], ""]):  # noqa: B905 (same length by construction)
        name, equals, value = word.partition("=")
        if name in OPTIONS:
            found.append((OPTIONS[name], value if equals else following))
    return found


def bounded(process: dict, allowed: set[str]) -> dict:
    """The OCI process object without capabilities outside ``allowed``."""
    sets = process.get("capabilities") or {}
    return {**process, "capabilities": {kind: [c for c in names or [] if c in allowed] for kind, names in sets.items()}} if sets else process


def rewrite(kind: str, value: str, allowed: set[str]) -> None:
    """Bound the capabilities in one file, replacing it as a whole."""
    path = os.path.join(value, "config.json") if kind == "bundle" else value
    with open(path) as handle:
        spec = json.load(handle)
    if kind == "bundle":
        changed = {**spec, "process": bounded(spec["process"], allowed)} if spec.get("process") else spec
    else:
        changed = bounded(spec, allowed)
    if changed != spec:
        mode = os.stat(path).st_mode & 0o777
        with open(os.open(f"{path}.bounded", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode), "w") as handle:
            json.dump(changed, handle)
        os.replace(f"{path}.bounded", path)


def main(arguments: list[str]) -> None:
    """Rewrite, then become runc."""
    runc = os.environ.get("MAILGALE_RUNC") or shutil.which("runc", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/usr/local/sbin:/usr/local/bin")
    try:
        if runc is None:
            raise FileNotFoundError("runc is not installed")
        with open("/proc/self/status") as handle:
            allowed = granted(handle.read())
        for kind, value in files(arguments):
            rewrite(kind, value, allowed)
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"runc-bounded: cannot bound the capabilities: {error}")
    os.execv(runc, [runc, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
