"""The credential of a cable on this host, whichever method the file asks for."""

from collections.abc import Callable
from functools import cache

from cablectl.host import certificates, keys, nss_store
from cablectl.model.cable import Cable
from cablectl.model.x509 import Auth

Found = keys.Found | certificates.Found


def finder(auth: Auth) -> Callable[[Cable], Found]:
    """Return what finds the credential of each cable; what several share is read once."""
    if auth is Auth.CERT:
        store = nss_store.read()
        finder_of = cache(lambda cert: certificates.finder(cert, store))
        return lambda cable: finder_of(cable.certificates)(cable)
    key_of = cache(keys.read)

    def find(cable: Cable) -> keys.Found:
        ppk = key_of(cable.ppk, keys.PPK) if cable.ppk else None
        return keys.find_in(cable, key_of(cable.psk), ppk)

    return find
