"""`cablectl schema`: the JSON Schema of the file."""

import sys


def schema() -> None:
    """Print the JSON Schema of the file.

    By it an editor checks and explains a file that names it on its first line:
    # yaml-language-server: $schema=cablectl.schema.json
    """
    from cablectl.config import json_schema

    sys.stdout.write(json_schema.as_text())
