"""Converts Submariner's documents into the equivalent file, with the place of each value.

The documents are: Submariner (submariner.io/v1alpha1), Endpoint and Gateway (submariner.io/v1),
Secret, and the ConfigMap of the proposal's cableDriverCustomConfig. Each field has the effect that
it has in Submariner's libreswan and vxlan drivers.
"""

from typing import Any

from msgspec import Struct

from cablectl.config import native
from cablectl.config.reader import Document, Place
from cablectl.config.spec import FIELDS
from cablectl.config.submariner.duplicates import merged
from cablectl.config.submariner.endpoints import Endpoints
from cablectl.config.submariner.equivalent import Equivalent
from cablectl.config.submariner.objects import (
    CORE_ADVICE,
    Object,
    Problems,
    has_objects,
    objects,
)
from cablectl.config.submariner.settings import VARIABLE, Settings
from cablectl.errors import UsageError
from cablectl.model.network import Network
from cablectl.model.wishes import MAX_ENDPOINTS

__all__ = ["VARIABLE", "Imported", "has_objects", "parse"]

MAX_OBJECTS = 4 * MAX_ENDPOINTS  # each cluster has an endpoint, a gateway, a resource and a secret


class Imported(Struct, frozen=True):
    """The content of the documents."""

    value: dict[str, Any]  # the equivalent file
    network: Network
    key: str  # the pre-shared key; empty if the documents don't contain it
    notes: tuple[str, ...]  # ignored fields, each with the reason, for a person


def parse(texts: dict[str, str], psk_file: str = "") -> Imported:
    """Return the content of documents, given by file name; UsageError with all problems.

    The equivalent file names `psk_file` as the key's file, or VARIABLE if `psk_file` is empty.
    """
    problems: Problems = []
    found = [entry for file, text in texts.items() for entry in objects(file, text, problems)]
    if len(found) > MAX_OBJECTS:
        raise UsageError(
            f"{len(found)} objects in the documents; allowed: at most {MAX_OBJECTS}",
            hint="give only the objects of the clusters that you want to join",
        )
    found = merged(found, problems)
    _refuse_core_endpoints(found, problems)
    # Split once: a text of 1 MiB may have thousands of ConfigMaps.
    lines = {file: text.splitlines() for file, text in texts.items()}
    equivalent = Equivalent(found, Place(next(iter(texts)), 1, ""), problems)
    settings = Settings(equivalent, lines)
    settings.read()
    key = settings.read_key(psk_file)
    Endpoints(equivalent).read()
    value = {name: equivalent.value[name] for name in FIELDS if name in equivalent.value}
    network = native.build(Document(value, equivalent.places), problems)
    return Imported(value, network, key, tuple(dict.fromkeys(equivalent.notes)))


def _refuse_core_endpoints(found: list[Object], problems: Problems) -> None:
    """Keep one problem of Kubernetes' own Endpoints; report it at once if there are no others."""
    core = [problem for problem in problems if problem[1].endswith(CORE_ADVICE)]
    others = set(core[1:])
    problems[:] = [problem for problem in problems if problem not in others]
    if core and not any(entry.kind == "Endpoint" for entry in found):
        native.refuse(problems)
