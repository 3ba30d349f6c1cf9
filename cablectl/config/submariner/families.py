"""One version of IP for all gateways: an Endpoint may have both, and a file has one.

Submariner takes, for each version, the first such address of the plural field, and for IPv4 the
singular field if the plural one has none (EndpointSpec.GetPrivateIP). Such is the order here.
"""

from functools import lru_cache
from ipaddress import ip_address, ip_network

from msgspec import Struct

from cablectl.config import native
from cablectl.config.submariner.objects import Field, Object, Problems
from cablectl.config.values import legible
from cablectl.model.wishes import MAX_ENDPOINTS

VERSIONS = (4, 6)  # the preferred one first


class Addresses(Struct, frozen=True):
    """The addresses and subnets of an Endpoint in the version of the file.

    `other` are those of the other version.
    """

    private: Field | None
    public: Field | None
    health: Field | None
    subnets: tuple[Field, ...]
    other: tuple[str, ...]


def version_of(value: object) -> int | None:
    """Return the version of IP of an address or a subnet; None for anything else."""
    return _version_of(value) if isinstance(value, str) else None


@lru_cache(maxsize=3 * MAX_ENDPOINTS)  # each value is looked at several times
def _version_of(text: str) -> int | None:
    try:
        return ip_network(text, strict=False).version
    except ValueError:
        return None


def same_address(one: object, other: object) -> bool:
    """Tell whether two texts are one address, however it is written."""
    try:
        return ip_address(str(one)) == ip_address(str(other))
    except ValueError:
        return False


def is_within(address: object, subnets: list[object]) -> bool:
    """Tell whether an address is in one of the subnets, as texts; what is neither is skipped."""
    found = [text for text in subnets if version_of(text) == version_of(address)]
    return any(ip_address(str(address)) in ip_network(str(text), strict=False) for text in found)


def chosen_version(endpoints: list[Object], problems: Problems) -> int:
    """Return the version of IP in which every gateway has an address and subnets, or IPv4.

    UsageError, with the earlier problems, if the gateways have both versions, and no version fits.
    """
    entries = [(_privates(endpoint), _subnets(endpoint)) for endpoint in endpoints]
    seen = {version_of(entry.value) for fields in entries for part in fields for entry in part}
    if len(seen - {None}) < 2:
        return 6 if 6 in seen else 4
    lacking = []
    for version in VERSIONS:
        lacks = ((i, _lack(*fields, version)) for i, fields in enumerate(entries))
        first = next(((i, what) for i, what in lacks if what), None)
        if first is None:
            return version
        i, what = first
        lacking.append((endpoints[i], f"{_name(endpoints[i])} has no IPv{version} {what}"))
    (_, first_lack), (endpoint, second_lack) = lacking
    message = (
        f"{first_lack}, and {second_lack}; a cable has one version of IP: give all endpoints"
        " an address and a subnet of one version"
    )
    native.refuse([*problems, (endpoint.place("spec"), message)])
    raise AssertionError  # there is a problem


def addresses(endpoint: Object, version: int) -> Addresses:
    """Return what an Endpoint has in that version of IP.

    A value of no version stays, so that the model refuses it at its place.
    """
    privates, subnets = _privates(endpoint), _subnets(endpoint)
    publics = _addresses(endpoint, "public_ips", "public_ip")
    private, public = _first(privates, version), _first(publics, version)
    checked = _addresses(endpoint, "healthCheckIPs", "healthCheckIP")
    health = next((entry for entry in checked if version_of(entry.value) == version), None)
    other = tuple(
        legible(entry.value)
        for entry in (*privates, *publics, *subnets)
        if version_of(entry.value) not in (version, None)
    )
    kept = tuple(entry for entry in subnets if version_of(entry.value) in (version, None))
    return Addresses(private, public, health, kept, tuple(dict.fromkeys(other)))


def _privates(endpoint: Object) -> tuple[Field, ...]:
    return _addresses(endpoint, "private_ips", "private_ip")


def _addresses(endpoint: Object, plural: str, singular: str) -> tuple[Field, ...]:
    """Return the addresses of the plural field, then the one of the singular field."""
    entry = endpoint.spec(singular)
    return (*_items(endpoint, plural), *([entry] if entry else []))


def _subnets(endpoint: Object) -> tuple[Field, ...]:
    return _items(endpoint, "subnets")


def _items(endpoint: Object, name: str) -> tuple[Field, ...]:
    """Return the items of a list in the spec, each with its place; of no list, none."""
    entry = endpoint.spec(name)
    if not entry or not isinstance(entry.value, list):
        return ()
    return tuple(Field(item, endpoint.place("spec", name, j)) for j, item in enumerate(entry.value))


def _first(entries: tuple[Field, ...], version: int) -> Field | None:
    """Return the first address of that version, or else the first of no version."""
    for wanted in (version, None):
        for entry in entries:
            if version_of(entry.value) == wanted:
                return entry
    return None


def _lack(privates: tuple[Field, ...], subnets: tuple[Field, ...], version: int) -> str:
    """Return what an endpoint lacks in that version; a missing field lacks nothing here."""
    if privates and _first(privates, version) is None:
        return "address"
    if subnets and not any(version_of(entry.value) in (version, None) for entry in subnets):
        return "subnet"
    return ""


def _name(endpoint: Object) -> str:
    return legible(endpoint.text("cluster_id") or endpoint.name or "an endpoint")
