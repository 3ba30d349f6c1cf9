"""`cablectl schema`: the JSON Schema of the file."""

import sys


def schema() -> None:
    """Print the JSON Schema of the file.

    An editor checks and explains a file whose first line names the schema:
    # yaml-language-server: $schema=cablectl.schema.json
    """
    from cablectl.config import json_schema

    sys.stdout.write(json_schema.as_text())
