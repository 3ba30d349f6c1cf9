"""iptables' rules from what `iptables-save` prints (iptables-extensions(8))."""

import re
import shlex
from collections.abc import Iterator

from cablectl.linux.firewall.filters import PROTOCOLS, Chain, Condition, Rule

_VERDICTS = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "reject", "RETURN": "return"}
# What an option asks of, and what a packet calls it.
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
    "--pol": "ipsec",
}
_ASKS_NOTHING = ("-m", "--comment", "--dir", "--reject-with")


def parse(saved: str, program: str) -> tuple[Chain, ...]:
    """Return the chains of the tables that filter, as a program such as ip6tables saves them."""
    policies: dict[tuple[str, str], str] = {}
    rules: dict[tuple[str, str], list[Rule]] = {}
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif found := re.match(r":(\S+) (\S+)", line):
            policies[table, found[1]] = found[2].lower()
        elif found := re.match(r"-A (\S+) (.*)", line):
            rules.setdefault((table, found[1]), []).append(_rule(line, shlex.split(found[2])))
    return tuple(
        Chain(
            table=f"{program} {table}",
            name=name,
            family="ipv6" if program.startswith("ip6") else "ipv4",
            hook="" if policy == "-" else name.lower(),  # only a chain that is built in has one
            policy="accept" if policy == "-" else policy,
            rules=tuple(rules.get((table, name), ())),
        )
        for (table, name), policy in policies.items()
        if table != "nat"
    )


def tables(saved: str) -> tuple[str, ...]:
    """Return the names of the tables that are there."""
    return tuple(line[1:] for line in saved.splitlines() if line.startswith("*"))


def is_nftables(saved: str) -> bool:
    """Tell whether nftables has these rules, and would list them, too."""
    return "(nf_tables)" in saved.partition("\n")[0]


def _rule(line: str, words: list[str]) -> Rule:
    conditions: list[Condition] = []
    verdict = target = ""
    for option, value, negated in _options(words):
        if option in ("-j", "-g"):
            # What is no verdict is a chain; or an extension, which no chain is called.
            verdict = _VERDICTS.get(value, "goto" if option == "-g" else "jump")
            target = value
        elif option in _FIELDS:
            values = tuple(_value(option, each) for each in value.split(","))
            conditions.append(Condition(_FIELDS[option], values, negated))
        elif option not in _ASKS_NOTHING:
            conditions.append(Condition(""))
    return Rule(line, tuple(conditions), verdict, target)


def _options(words: list[str]) -> Iterator[tuple[str, str, bool]]:
    """Yield each option with its values, and whether it is negated."""
    negated, option, values = False, "", list[str]()
    for word in [*words, "-"]:
        if word not in ("!",) and not word.startswith("-"):
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
    match option:
        case "-p":
            return PROTOCOLS.get(text, text)
        case "-i" | "-o":
            return text.replace("+", "*")
        case "--pol":
            return str(text == "ipsec").lower()
        case "--ctstate" | "--state":
            return text.lower()
        case _:
            return text.replace(":", "-") if "port" in option else text
