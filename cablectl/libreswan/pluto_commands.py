"""The commands of Libreswan that name no connection."""

from cablectl.model.argv import Argv

WHACK: Argv = ("ipsec", "whack")
LISTEN: Argv = (*WHACK, "--listen")  # also reloads the secrets
REREAD_SECRETS: Argv = (*WHACK, "--rereadsecrets")
REREAD_CERTIFICATES: Argv = (*WHACK, "--rereadcerts")
STATUS: Argv = (*WHACK, "--status")
TRAFFIC_STATUS: Argv = (*WHACK, "--trafficstatus")
SHOW_STATES: Argv = (*WHACK, "--showstates")
STACK_MANAGER: Argv = ("ipsec", "_stackmanager", "start")
# All releases from 4.0 to 5.4 take these two options; 5.4 refuses the older -v2 -pfs.
PARSE_ALGORITHMS: Argv = ("ipsec", "algparse", "--ikev2", "--pfs")
