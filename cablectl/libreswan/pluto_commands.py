"""The commands of Libreswan that name no connection."""

from cablectl.model.argv import Argv

WHACK: Argv = ("ipsec", "whack")
LISTEN: Argv = (*WHACK, "--listen")  # also reloads the secrets
REREAD_SECRETS: Argv = (*WHACK, "--rereadsecrets")
STATUS: Argv = (*WHACK, "--status")
TRAFFIC_STATUS: Argv = (*WHACK, "--trafficstatus")
STACK_MANAGER: Argv = ("ipsec", "_stackmanager", "start")
