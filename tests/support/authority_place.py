"""An authority and the files of three gateways, without the command line."""

from datetime import timedelta
from pathlib import Path

from cablectl.host import authority_files, issuing
from cablectl.host.authority_files import AuthorityDirectory
from cablectl.host.issuing import Terms
from cablectl.identity import certificate_checks, encoded
from cablectl.identity.certificate import DnsName
from cablectl.identity.certificate_checks import Presented
from cablectl.identity.issued import Done
from cablectl.model.x509 import KeyType
from tests.support.certificates import DAY, NOW
from tests.support.meshes import CABLES

ENDS = (CABLES[0].local, *(cable.remote for cable in CABLES))
CLUSTERS = [end.cluster for end in ENDS]
PASSPHRASE = b"a passphrase that is nowhere shown"
FILES = {"cert.pem", "key.pem", "ca.pem", "crl.pem"}
NEXT = {f"{name}.next" for name in FILES}


class Place:
    """An authority, and the directory with the files of its gateways."""

    def __init__(self, root: Path) -> None:
        self.ca, self.out, self.now = root / "ca", root / "gateways", NOW
        authority_files.create(str(self.ca), 730, PASSPHRASE, NOW)

    @property
    def directory(self) -> AuthorityDirectory:
        return authority_files.read(str(self.ca))

    def terms(self, days: int = 90) -> Terms:
        return Terms(now=self.now, days=days, kind=None, default=KeyType.ECDSA, out=self.out)

    def issue(self, *ends: object, days: int = 90) -> list[Done]:
        chosen = [end for end in ENDS if not ends or end in ends]
        return [*issuing.issue(self.directory, chosen, self.terms(days), PASSPHRASE)]

    def renew(self, within: timedelta | None = 30 * DAY) -> list[Done]:
        return [*issuing.renew(self.directory, ENDS, self.terms(), PASSPHRASE, within)]

    def revoke(self, name: str) -> list[Done]:
        return [*issuing.revoke(self.directory, name, PASSPHRASE, self.now)]

    def files(self, cluster: str) -> set[str]:
        return {file.name for file in (self.out / cluster).iterdir()}

    def problems(self, cluster: str, ending: str = "") -> list[str]:
        """Return what a peer would say of a gateway's files."""

        def content(name: str) -> bytes:
            return (self.out / cluster / f"{name}{ending}").read_bytes()

        presented = Presented(
            leaf=encoded.read_pem(content("cert.pem"))[0],
            key=encoded.read_key(content("key.pem")),
            roots=encoded.read_pem(content("ca.pem")),
            crls=(encoded.read_crl(content("crl.pem")),),
        )
        name = DnsName(f"{cluster}-worker")
        return [told for told, _ in certificate_checks.problems(presented, name, self.now)]
