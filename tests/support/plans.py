"""What a plan has to do, and a host on which nothing is done."""

import shlex

from cablectl.facts.host_facts import Facts, Link
from cablectl.libreswan.dialects import Version
from cablectl.linux.xfrm import Policy, SecurityAssociation
from cablectl.plan.steps import Plan

BLANK = Facts(libreswan=Version(4, 10))
# Of somebody else: a policy, an SA and a device.
FOREIGN = Policy("10.0.0.0/8", "10.1.0.0/16", None, None, None, "out")
OTHER_SA = SecurityAssociation("192.0.2.1", "192.0.2.2", "esp", "0x100", 7)
OTHER_LINK = Link(kind="vxlan", group="0", mac="02:ca:ac:12:00:08", mtu=1450, up=True)


def needed(plan: Plan) -> list[str]:
    return [shlex.join(step.argv) for step in plan.needed]
