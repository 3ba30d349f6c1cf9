"""What an import made, as a report: what `cablectl import --format json` prints as its result."""

from msgspec import Struct


class ImportReport(Struct, frozen=True, kw_only=True):
    """The file that Submariner's documents give, and where the file and the key were written.

    `output` is null if the file was not written; `psk_file` is null if the documents hold no key;
    `psk_written` is false as well if `psk_file` held the key already.
    """

    output: str | None
    yaml: str
    notes: tuple[str, ...]
    psk_file: str | None
    psk_written: bool
