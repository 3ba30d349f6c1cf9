"""iptables' rules, parsed from the output of `iptables-save` (iptables-extensions(8))."""

import re
import shlex
from collections.abc import Iterator

from cablectl.linux.firewall.filters import PROTOCOLS, Chain, Condition, Rule

_NAT = ("MASQUERADE", "SNAT", "DNAT", "REDIRECT", "NETMAP")
_VERDICTS = {name: name.lower() for name in ("ACCEPT", "DROP", "REJECT", "RETURN", *_NAT)}
# An option → the packet's field that it tests.
_FIELDS = {
    "-p": "protocol",
    "-s": "saddr",
    "-d": "daddr",
    "-i": "iif",
    "-o": "oif",
    "--sport": "sport",
    "--dport": "dport",
    "--sports": "sport",
    "--dports": "dport",
    "--ctstate": "state",
    "--state": "state",
    "--ctstatus": "status",
    "--ctdir": "direction",
    "--src-type": "saddrtype",
    "--dst-type": "daddrtype",
}
_NO_CONDITION = ("-m", "--comment", "--reject-with")
# Options of a target of the table nat; the first ones have the address that it gives.
_NAT_ADDRESS = ("--to-source", "--to-destination", "--to")
_NAT_OPTIONS = (*_NAT_ADDRESS, "--to-ports", "--random", "--random-fully", "--persistent")


def parse(saved: str, program: str) -> tuple[Chain, ...]:
    """Return the chains of all tables; `program` is iptables, ip6tables-legacy or such."""
    policies: dict[tuple[str, str], str] = {}
    rules: dict[tuple[str, str], list[Rule]] = {}
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif match := re.match(r":(\S+) (\S+)", line):
            policies[table, match[1]] = match[2].lower()
        elif match := re.match(r"-A (\S+) (.*)", line):
            rules.setdefault((table, match[1]), []).append(_rule(line, shlex.split(match[2])))
    return tuple(
        Chain(
            table=f"{program} {table}",
            name=name,
            family="ipv6" if program.startswith("ip6") else "ipv4",
            hook="" if policy == "-" else name.lower(),  # only a built-in chain has a policy
            policy="accept" if policy == "-" else policy,
            rules=tuple(rules.get((table, name), ())),
            type="nat" if table == "nat" else "filter",
        )
        for (table, name), policy in policies.items()
    )


def tables(saved: str) -> tuple[str, ...]:
    """Return the names of the saved tables."""
    return tuple(line[1:] for line in saved.splitlines() if line.startswith("*"))


def is_nftables(saved: str) -> bool:
    """Tell whether iptables keeps these rules in nftables, so that nft lists them too."""
    return "(nf_tables)" in saved.partition("\n")[0]


def _rule(line: str, words: list[str]) -> Rule:
    """Return a rule; an option that cablectl doesn't know becomes a condition that isn't known."""
    conditions: list[Condition] = []
    verdict = target = direction = ""
    for option, value, negated in _options(words):
        if option in ("-j", "-g"):
            # Any other word is a chain, or an extension such as LOG, which is no chain's name.
            verdict = _VERDICTS.get(value, "goto" if option == "-g" else "jump")
            target = "" if value in _NAT else value
        elif option in _NAT_OPTIONS and verdict.upper() in _NAT:
            target = value if option in _NAT_ADDRESS else target
        elif option == "--dir":
            direction = value
        elif option == "--pol":
            field = "ipsec_out" if direction == "out" else "ipsec"
            conditions.append(Condition(field, (str(value == "ipsec").lower(),), negated))
        elif option in _FIELDS:
            values = tuple(_value(option, part) for part in value.split(","))
            conditions.append(Condition(_FIELDS[option], values, negated))
        elif option not in _NO_CONDITION:
            conditions.append(Condition(""))
    return Rule(line, tuple(conditions), verdict, target)


def _options(words: list[str]) -> Iterator[tuple[str, str, bool]]:
    """Yield each option, the words after it, and whether a `!` negates it."""
    negated, option, values = False, "", list[str]()
    for word in [*words, "-"]:  # the last word ends the last option
        if word != "!" and not word.startswith("-"):
            values.append(word)
            continue
        if option:
            yield option, " ".join(values), negated
            negated, option, values = False, "", []
        if word == "!":
            negated = True
        else:
            option = word


def _value(option: str, text: str) -> str:
    """Return a value in the notation of Condition."""
    match option:
        case "-p":
            return PROTOCOLS.get(text, text)
        case "-i" | "-o":
            return text.replace("+", "*")
        case "--ctstate" | "--state" | "--ctstatus" | "--ctdir" | "--src-type" | "--dst-type":
            return text.lower().replace("_", "-")
        case _:
            return text.replace(":", "-") if "port" in option else text
