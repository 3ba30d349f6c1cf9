"""The JSON Schemas of the reports, from the program's own types."""

import json
from typing import Any

import msgspec

from cablectl.render.authority_report import AuthorityReport
from cablectl.render.doctor_report import DoctorReport
from cablectl.render.envelope import JSON_VERSION, ErrorReport, Kind
from cablectl.render.import_report import ImportReport
from cablectl.render.nic_report import NicReport
from cablectl.render.outcome_report import OutcomeReport
from cablectl.render.plan_report import PlanReport
from cablectl.render.proof_report import ProofReport
from cablectl.render.rotation_report import RotationReport
from cablectl.status.report import StatusReport

RESULTS: dict[Kind, type[msgspec.Struct]] = {
    "plan": PlanReport,
    "connect": OutcomeReport,
    "teardown": OutcomeReport,
    "rotate": RotationReport,
    "status": StatusReport,
    "verify": ProofReport,
    "doctor": DoctorReport,
    "offload": NicReport,
    "import": ImportReport,
    "ca": AuthorityReport,
}
_REF = "#/$defs/{name}"


def schema(kind: Kind) -> dict[str, Any]:
    """Return the schema of one kind of report: an envelope with a result or an error."""
    (result, error), defs = msgspec.json.schema_components(
        (RESULTS[kind], ErrorReport), ref_template=_REF
    )
    for definition in defs.values():
        if "properties" in definition:
            definition["additionalProperties"] = False
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"cablectl {kind} --format json",
        "type": "object",
        "properties": {
            "version": {"const": JSON_VERSION},
            "kind": {"const": kind},
            "host": {"type": "string"},
            "result": result,
            "error": error,
        },
        "required": ["version", "kind", "host"],
        "oneOf": [{"required": ["result"]}, {"required": ["error"]}],
        "additionalProperties": False,
        "$defs": defs,
    }


def as_text(kind: Kind) -> str:
    """Return the content of docs/KIND.schema.json."""
    return f"{json.dumps(schema(kind), indent=2)}\n"
