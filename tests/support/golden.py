"""The golden scripts: their names, and what each is to hold."""

from cablectl.facts.host_facts import Facts, connected
from cablectl.libreswan.dialects import parse_version
from cablectl.plan import connect_plan, teardown_plan
from cablectl.render import plans
from tests.support.documents import SHAPES, meshed
from tests.support.examples import load_all
from tests.support.places import EXAMPLES

ENDS = ("cluster1", "cluster2")
# action, example or shape, local end, Libreswan
NAMES = (
    [
        f"{action}_{example}_{end}_{version}"
        for action, example, versions in (
            ("connect", "proposal", ("4.10",)),
            ("connect", "quickstart", ("4.0", "4.7", "4.10", "5.0", "5.2", "5.3", "5.4")),
            ("connect", "transport-vxlan-v4-pfs", ("4.0", "4.7", "5.0", "5.3", "5.4")),
            ("teardown", "quickstart", ("4.10",)),
            ("teardown", "tunnel-v4", ("4.10",)),
            ("teardown", "transport-gre-v6", ("4.10",)),
            ("connect", "tunnel-v4", ("5.2",)),
            ("connect", "transport-gre-v6", ("4.0", "5.3")),
        )
        for end in ENDS
        for version in versions
    ]
    + [
        f"{action}_mesh_{end}_{version}"
        for action, version in (("connect", "4.10"), ("connect", "5.2"), ("teardown", "4.10"))
        for end in (*ENDS, "cluster3")
    ]
    + [f"connect_{shape.replace(' ', '-')}_{end}_4.10" for shape in SHAPES for end in ENDS]
)


def script_of(name: str) -> str:
    """Return the script that a golden file's name asks for."""
    action, example, local, version = name.split("_")
    shape = example.replace("-", " ")
    is_example = (EXAMPLES / f"{example}.yaml").exists()
    cables = load_all(example, local) if is_example else meshed(shape, local)
    facts = Facts(libreswan=parse_version(version))
    if action == "teardown":
        made = tuple(connected(cable, facts, 1408) for cable in cables)
        return plans.as_script(teardown_plan.plan(cables, made))
    return plans.as_script(connect_plan.plan(cables, (facts,) * len(cables)))
