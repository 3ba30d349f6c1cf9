"""What a plan has to do, and a host on which nothing is done."""

import shlex

from cablectl.facts.host_facts import Facts
from cablectl.libreswan.dialects import Version
from cablectl.plan.steps import Plan

BLANK = Facts(libreswan=Version(4, 10))


def needed(plan: Plan) -> list[str]:
    return [shlex.join(step.argv) for step in plan.needed]
