"""Measures what one document of 1 MiB can cost: seconds of processor time, and MiB of memory.

Run `make hostile`, or `python -m benchmarks.hostile [NAME…]` in the environment where cablectl is
installed. Each document is planned by a process of its own. Most documents are refused, which has
to be as cheap as a plan.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

from cablectl.host.files import MAX_FILE as SIZE

SECONDS = 2.0
MEBIBYTES = 200.0
TIMEOUT = 300  # seconds
PROGRAM = str(Path(sys.executable).parent / "cablectl")
TUNNEL = "version: 1\nendpoints:\n"
VXLAN = "version: 1\nmode: transport\noverlay: vxlan\nendpoints:\n"
END = "  - {{cluster: c{0}, hostname: h{0}, address: {1}, subnets: [{2}]}}\n"
PAIR = (
    TUNNEL
    + END.format(0, "172.18.0.8", "10.44.0.0/16")
    + END.format(1, "172.18.0.7", "10.45.0.0/16")
)
OBJECT = "---\napiVersion: {0}\nkind: {1}\n"
GATEWAY = OBJECT.format("submariner.io/v1", "Endpoint") + (
    "spec: {{backend: libreswan, cluster_id: c{0}, hostname: h{0}, private_ip: {1},"
    " subnets: [{2}]}}\n"
)
RESOURCE, SECRET = OBJECT.format("a", "Submariner"), OBJECT.format("v1", "Secret")
BLOCK = OBJECT.format("v1", "ConfigMap") + "data:\n  ceCustomConfig: |\n"
GATEWAYS = GATEWAY.format(0, "172.18.0.8", "10.44.0.0/16") + GATEWAY.format(
    1, "172.18.0.7", "10.45.0.0/16"
)


def filled(start: str, make: Callable[[int], str], end: str = "", *, least: int = 0) -> str:
    """Return a text of SIZE bytes at most: a start, as many parts as fit, and an end."""
    parts, room = [start], SIZE - len(start) - len(end)
    for number in count():
        part = make(number)
        room -= len(part)
        if room < 0 or (least and number >= least):
            break
        parts.append(part)
    return "".join([*parts, end])


def always(part: str) -> Callable[[int], str]:
    """Return what makes the same part every time."""
    return lambda _: part


def address(number: int) -> str:
    """Return a gateway's address."""
    return f"172.{16 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def net(number: int) -> str:
    """Return a subnet."""
    return f"10.{number >> 8}.{number & 255}.0/24"


def subnets(end: int, number: int) -> str:
    """Return subnets of one endpoint."""
    return ", ".join(f"10.{end}.{i}.0/24" for i in range(number))


def mesh(start: str, ends: int, number: int) -> str:
    """Return a mesh of so many ends with so many subnets each."""
    return start + "".join(END.format(i, address(i), subnets(i, number)) for i in range(ends))


def documents() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each document."""
    yield from meshes()
    yield from values()
    yield from texts()
    yield from objects()


def meshes() -> Iterator[tuple[str, str]]:
    """Yield files with many endpoints, subnets or connections."""
    yield "tunnel mesh 60 x 100", mesh(TUNNEL, 60, 100)
    yield "tunnel pair 2 x 100", mesh(TUNNEL, 2, 100)
    yield "tunnel mesh 8 x 40", mesh(TUNNEL, 8, 40)
    yield "tunnel mesh 200 x 8", mesh(TUNNEL, 200, 8)
    yield "vxlan mesh 250 x 100", mesh(VXLAN, 250, 100)
    yield "vxlan endpoints", filled(VXLAN, lambda i: END.format(i, address(i), net(i)), least=4096)
    yield (
        "tunnel endpoints",
        filled(TUNNEL, lambda i: END.format(i, address(i), net(i)), least=4096),
    )
    yield "too many endpoints", filled(VXLAN, lambda i: f"- {{address: {address(i)}}}\n")
    yield "empty endpoints", filled(TUNNEL, lambda _: "- {}\n")
    yield (
        "endpoints all alike",
        filled(TUNNEL, lambda _: END.format(0, "172.18.0.8", "10.0.0.0/8"), least=4096),
    )
    yield (
        "nested subnets",
        filled(TUNNEL, lambda i: END.format(i, address(i), f"10.0.0.0/{8 + i % 22}"), least=4096),
    )
    yield "subnets", filled(PAIR.rstrip("]}\n"), lambda i: f", {net(i)}", "]}\n")
    yield "esp", filled(PAIR + "ipsec: {esp: [a", lambda _: ",a", "]}\n")


def values() -> Iterator[tuple[str, str]]:
    """Yield files with many values, some of them with just as many as are allowed."""
    for name, item in (
        ("words", "a,"),
        ("numbers", "1,"),
        ("floats", "1.5,"),
        ("dates", "2001-01-01,"),
        ("base 60", "1:1:1:1:1:1:1:1:1:1:1:1,"),
        ("long numbers", "9" * 4000 + ","),
        ("nulls", "~,"),
        ("quoted", "'',"),
        ("lists", "[],"),
        ("mappings", "{},"),
        ("keys", "a: ,"),
        ("tags", "!x a,"),
        ("anchors", "&a a,"),
        ("aliases", "*a,"),
        ("escapes", '"\\U0001F600",'),
        ("omap", "!!omap [],"),
    ):
        yield name, filled("a: [", always(item), "]\n")
    for name, item, number in (
        ("99,000 words", "a,", 99_000),
        ("99,000 numbers", "1,", 99_000),
        ("99,000 dates", "2001-01-01,", 99_000),
        ("99,000 lists", "[],", 99_000),
        ("33,000 keys", "a: ,", 33_000),
    ):
        yield name, filled("a: [", always(item), "]\n", least=number)
    yield "49,000 keys of one mapping", filled("", lambda i: f"a{i}:\n", least=49_000)
    yield "49,000 times a key", filled("", lambda _: "a:\n", least=49_000)
    yield (
        "49,000 fields of an endpoint",
        filled(TUNNEL + "- {", lambda i: f"a{i}: ,", "}\n", least=49_000),
    )
    yield (
        "4,000 endpoints of wrong fields",
        filled(
            TUNNEL, lambda _: "- {" + ",".join(f"a{j}: 1" for j in range(11)) + "}\n", least=4_000
        ),
    )
    yield "words, a line each", filled("a:\n", lambda _: "- a\n")
    yield "keys of one mapping", filled("", lambda i: f"a{i}:\n")
    yield "a key again", filled("", lambda _: "a:\n")
    yield "unknown fields of endpoints", filled(TUNNEL + "- {", lambda i: f"a{i}: ,", "}\n")


def texts() -> Iterator[tuple[str, str]]:
    """Yield files that nest, grow, or have long lines."""
    yield "nested lists", filled("", lambda _: "[")
    yield "nested mappings", filled("", lambda _: "{a: ")
    yield "nested question marks", filled("", lambda _: "? ")
    yield "nested dashes", filled("", lambda _: "- ")
    yield "nested lines", filled("", lambda i: " " * (i % 700) + "a:\n")
    yield "laughs", "a: &a [x]\n" + filled("", lambda i: f"b{i}: &b{i} [*a, *a]\n")
    yield "one line", "a: " + "x" * (SIZE - 4) + "\n"
    yield "one key", "x" * (SIZE - 4) + ": a\n"
    yield "one text of many lines", filled("a: '", lambda _: "x\n", "'\n")
    yield "comments", filled(PAIR, lambda _: "#\n")
    yield "empty lines", filled(PAIR, lambda _: "\n")
    yield "blanks", filled(PAIR, lambda _: " ")
    yield "documents", filled("", lambda _: "--- a\n")


def objects() -> Iterator[tuple[str, str]]:
    """Yield documents of Submariner."""
    yield "empty objects", filled("apiVersion: v1\n", lambda _: "---\n")
    yield "ConfigMaps", filled("", lambda _: BLOCK + "    ceIPSecMode: tunnel\n")
    yield (
        "ConfigMaps in a long file",
        filled(GATEWAYS, lambda _: BLOCK + "    a: b\n", "#\n" * 260_000),
    )
    yield "12,000 ConfigMaps", filled("", lambda _: BLOCK + "    ceIPSecMode: x\n", least=10_900)
    yield (
        "12,000 Secrets",
        filled(GATEWAYS, lambda i: SECRET + f"data: {{psk: a{i}}}\n", least=10_900),
    )
    yield "12,000 Nodes", filled(GATEWAYS, lambda _: "---\nkind: Node\n", least=12_000)
    yield (
        "33,000 unknown kinds",
        filled("apiVersion: v1\n", lambda _: "---\nkind: a\n", least=33_000),
    )
    yield (
        "12,000 Submariners",
        filled(GATEWAYS, lambda _: RESOURCE + "spec: {clusterID: c0}\n", least=8_000),
    )
    yield "ConfigMaps and gateways", filled(GATEWAYS, lambda _: BLOCK + "    ceIPSecMode: tunnel\n")
    yield "ConfigMaps without a block", filled(GATEWAYS, lambda _: OBJECT.format("v1", "ConfigMap"))
    yield "one ConfigMap", filled(GATEWAYS + BLOCK, lambda i: f"    a{i}: b,\n")
    yield "one ConfigMap of one key", filled(GATEWAYS + BLOCK, lambda _: "    a: b,\n")
    yield "one ConfigMap of words", filled(GATEWAYS + BLOCK + "    a: [", lambda _: "a, ", "]\n")
    yield "one ConfigMap of brackets", filled(GATEWAYS + BLOCK, lambda _: "    [{,\n")
    yield "one ConfigMap of lines", filled(GATEWAYS + BLOCK, lambda _: "    \n", "    a: b\n")
    yield "Endpoints", filled("", lambda i: GATEWAY.format(i, address(i), net(i)), least=4096)
    yield "Endpoints in tunnels", mesh_of_objects(60, 100)
    yield "Endpoints all alike", filled("", lambda _: GATEWAY.format(0, "172.18.0.8", "10.0.0.0/8"))
    yield "Endpoints without a spec", filled("", lambda _: OBJECT.format("a", "Endpoint"))
    yield "Submariners", filled(GATEWAYS, lambda _: RESOURCE + "spec: {ceIPSecMode: x}\n")
    yield (
        "Submariners of one cluster",
        filled(GATEWAYS, lambda _: RESOURCE + "spec: {ceIPSecPreferredServer: true}\n"),
    )
    yield "Secrets", filled(GATEWAYS, lambda i: SECRET + f"data: {{psk: a{i}}}\n")
    yield "unknown kinds", filled("apiVersion: v1\n", lambda _: "---\nkind: a\n")
    yield "Nodes", filled(GATEWAYS, lambda _: "---\nkind: Node\n")
    yield (
        "nested Lists",
        filled("apiVersion: v1\nkind: List\nitems: [", lambda _: "{kind: List, items: []},", "]\n"),
    )


def mesh_of_objects(ends: int, number: int) -> str:
    """Return Submariner's Endpoints of a mesh of so many ends with so many subnets each."""
    return "".join(GATEWAY.format(i, address(i), subnets(i, number)) for i in range(ends))


class Cost(NamedTuple):
    """What one document costs, and the first line that the program says of it."""

    code: int
    seconds: float
    mebibytes: float
    line: str


def cost(text: str, folder: Path) -> Cost:
    """Return what the plan of a document costs."""
    file, said = folder / "hostile.yaml", folder / "said"
    file.write_text(text, encoding="utf-8")
    output = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    errors = (os.POSIX_SPAWN_OPEN, 2, str(said), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    child = os.posix_spawn(
        "/usr/bin/timeout",
        ("timeout", str(TIMEOUT), PROGRAM, "plan", str(file), "--dry-run", "--local", "c0"),
        os.environ,
        file_actions=[output, errors],
    )
    _, status, usage = os.wait4(child, 0)
    with said.open(encoding="utf-8", errors="replace") as lines:
        line = next(lines, "").strip().replace(f"{file}:", "")
    return Cost(
        os.waitstatus_to_exitcode(status),
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss / 1024,
        line,
    )


def main(names: list[str]) -> None:
    """Print a line for each document; exit with 1 if one costs too much."""
    dear = 0
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'document':<28}{'KiB':>6}{'exit':>6}{'seconds':>9}{'MiB':>7}  first line")
        for name, text in documents():
            if names and name not in names:
                continue
            if len(text.encode()) > SIZE:
                sys.exit(f"{name} is larger than {SIZE} bytes")
            found = cost(text, Path(folder))
            mark = " " if found.seconds <= SECONDS and found.mebibytes <= MEBIBYTES else "!"
            dear += mark == "!"
            print(
                f"{name:<28}{len(text) >> 10:>6}{found.code:>6}{found.seconds:>9.2f}"
                f"{found.mebibytes:>7.0f}{mark} {found.line[:100]}",
                flush=True,
            )
    print(f"{dear} above {SECONDS} s or {MEBIBYTES:.0f} MiB")
    sys.exit(1 if dear else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
