"""The commands that import certificates into NSS, pluto's own store, and remove them again.

A program of the shell imports the files, and writes the mark of each cable: a file in pluto's
directory with comments alone, which list what the cable needs. Then it removes from NSS what has a
nickname of cablectl and is in no mark. So cables and files share a certificate, and the last of
them removes it. What was in NSS before keeps its nickname and its trust, and stays.

pk12util takes a key only from a PKCS#12 file, so openssl makes one in a directory of mode 0700 on
/run. The program removes the directory at its end; the next program removes one that is left.
"""

import hashlib
from collections.abc import Iterator, Sequence

from msgspec import Struct

from cablectl.libreswan import secrets_file
from cablectl.libreswan.pluto_commands import REREAD_CERTIFICATES, REREAD_SECRETS
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.psk import NEXT
from cablectl.model.x509 import PREFIX, Cert

WORK = "/run/cablectl/.nss"  # a directory, only while a program runs
RUN = "/run/pluto"  # the directory of pluto's PID file, and of what `remember` keeps
PASSWORD_FILE = f"{secrets_file.DIRECTORY}/nsspassword"  # of NSS, if it has one (ipsec.conf(5))
TRUST = "CT,,"  # of an authority: what `ipsec import` gives
LINE = "# cablectl "  # the beginning of each line of a mark


def _in_one_line(program: str) -> str:
    """Return a program in one line, since a script has each command in one line."""
    return " ".join(line.strip() for line in program.splitlines() if line.strip())


# $nss is the store that pluto uses, or else the one that `ipsec` was built with. $login gives NSS's
# password. The lock is on pluto's directory, so that no file is left behind.
# `names` prints the nicknames in NSS: what is before three fields of trust.
# `marked KIND` prints the nicknames that the marks list.
# `drop NAME` removes a certificate, and its key; -F removes none without a key, and exits 0.
# `remember NAME` keeps an authority that is about to be removed, by the PID of the pluto that may
# go on to trust it (host.nss_store).
# `sweep` removes what no mark lists any more; $work/crls has the CRLs that were listed before.
_OPEN = rf"""
set -eC; umask 077; work={WORK} dir={secrets_file.DIRECTORY};
exec 9<"$dir"; flock 9; rm -rf "$work"; mkdir -p "$work";
nss=$(ipsec whack --status 2>&1 | sed -n "s/.*nssdir=\([^,]*\),.*/\1/p");
[ "$nss" ] || nss=$(ipsec checknss --help 2>&1 | sed -n "s/.*--nssdir \([^]]*\)].*/\1/p");
nss=sql:${{nss:?}}; login=; [ ! -e {PASSWORD_FILE} ] || login="-f {PASSWORD_FILE}";
names() {{ certutil -L -d "$nss" | sed -n "s/ *[a-zA-Z]*,[a-zA-Z]*,[a-zA-Z]* *\$//p"; }};
marked() {{
    cat "$dir"/cablectl-*.secrets 2>/dev/null | sed -n "s/^{LINE}$1 [0-9a-f]* //p" | sort -u;
}};
drop() {{
    for tool in "-F" "-D" "-F" "-D"; do
        names | grep -qxF -e "$1" || break;
        certutil $tool -d "$nss" $login -n "$1" >/dev/null 2>&1 || :;
    done;
}};
remember() {{
    pid=$(cat {RUN}/pluto.pid 2>/dev/null) || return 0;
    certutil -L -d "$nss" -n "$1" -a >|"{RUN}/$1.$pid" || :;
}};
sweep() {{
    marked "[a-z]*" >|"$work/marked";
    sort -u "$work/crls" | while read -r name; do
        marked crl | grep -qxF -e "$name" || crlutil -D -d "$nss" -n "$name" >/dev/null 2>&1 || :;
    done;
    names | grep "^{PREFIX}" | sort -u | while read -r name; do
        grep -qxF -e "$name" "$work/marked" || {{
            crlutil -D -d "$nss" -n "$name" >/dev/null 2>&1 || :;
            case "$name" in {PREFIX}/*) ;; *) remember "$name" ;; esac;
            drop "$name";
        }};
    done;
}};
trap "sweep; rm -rf \"\$work\"; rmdir \"\${{work%/*}}\" 2>/dev/null || :" EXIT;
trap "exit 130" INT TERM HUP;
marked crl >"$work/crls";
"""
_CLOSE = f"{' '.join(REREAD_CERTIFICATES)} >/dev/null 2>&1 || :"

# `parts FILE KIND TO` writes the blocks of a PEM file, each into a file of its own.
# `der KIND FILE` makes FILE.der and prints its fingerprint.
# `hold` writes the fingerprint and the nickname of each certificate in NSS into $work/list.
# certutil prints all certificates of one subject for the nickname of each: exact ones come first.
# `trust FILE FLAGS` imports an authority, unless NSS has it, and lists it.
# `revoke FILE` imports a CRL, unless NSS has a newer one, and lists it by its issuer's nickname.
# `own FILE` imports the gateway's certificate with its key, unless another cable has done so.
_TOOLS = rf"""
parts() {{
    awk -v to="$work/$3" -v head="-----BEGIN $2-----" -v foot="-----END $2-----"
        '{{ sub(/\r$/, "") }} $0 == head {{ n++; on = 1 }} on {{ print >(to sprintf(".%04d", n)) }}
        $0 == foot {{ on = 0 }}' "$1";
}};
der() {{ openssl "$1" -in "$2" -outform DER -out "$2.der"; sha256sum <"$2.der" | cut -c1-64; }};
hold() {{
    names | sort -u >"$work/names";
    {{ sed -n "s/^{PREFIX}\([0-9a-f]*\)\$/\1 &/p" "$work/names";
    sed -n "/^{PREFIX}\//p" "$work/names" >"$work/others";
    sed "/^{PREFIX}/d" "$work/names" >>"$work/others";
    while read -r name; do
        certutil -L -d "$nss" -n "$name" -a >|"$work/pem"; rm -f "$work"/held.*;
        parts "$work/pem" CERTIFICATE held;
        for one in "$work"/held.????; do echo "$(der x509 "$one") $name"; done;
    done <"$work/others"; }} >"$work/list";
}};
name_of() {{ sed -n "s/^$1 //p" "$work/list" | head -n 1; }};
trust() {{
    id=$(der x509 "$1"); name=$(name_of "$id");
    [ "$name" ] || {{
        name={PREFIX}$id; certutil -A -d "$nss" $login -n "$name" -t "$2" -i "$1.der";
        echo "$id $name" >>"$work/list";
    }};
    echo "{LINE}authority $id $name" >>"$work/mark";
}};
revoke() {{
    id=$(der crl "$1"); issuer=$(openssl crl -in "$1" -noout -hash); name=;
    for one in "$work"/ca.????; do
        [ "$(openssl x509 -in "$one" -noout -subject_hash)" != "$issuer" ] ||
            name=$(name_of "$(der x509 "$one")");
    done;
    [ "$name" ] || {{ echo "$crl: a CRL of no authority in $authority" >&2; exit 3; }};
    crlutil -I -d "$nss" -i "$1.der" >"$1.log" 2>&1 || grep -q SEC_ERROR_OLD_CRL "$1.log" ||
        {{ cat "$1.log" >&2; exit 3; }};
    echo "{LINE}crl $id $name" >>"$work/mark";
}};
own() {{
    id=$(der x509 "$1"); name=$(name_of "$id");
    [ "${{name:-$nick}}" = "$nick" ] ||
        {{ echo "NSS has this certificate as $name; write nickname: $name" >&2; exit 3; }};
    [ "$name" ] || {{
        drop "$nick";
        head -c 24 /dev/urandom | od -An -v -tx1 | tr -d " \n" >"$work/pass";
        openssl pkcs12 -export -in "$1" -inkey "$key" ${{pass:+-passin "file:$pass"}}
            -name "$nick" -passout "file:$work/pass" -out "$work/p12";
        pk12util -i "$work/p12" -d "$nss" -w "$work/pass" ${{login:+-k {PASSWORD_FILE}}} >/dev/null;
    }};
    echo "{LINE}certificate $id $nick" >>"$work/mark";
}};
"""
_IMPORT = rf"""
hold; parts "$chain" CERTIFICATE own; parts "$authority" CERTIFICATE ca; own "$work/own.0001";
for one in "$work"/ca.????; do trust "$one" {TRUST}; done;
for one in "$work"/own.????; do [ "$one" = "$work/own.0001" ] || trust "$one" ,,; done;
[ ! "$crl" ] || parts "$crl" "X509 CRL" crl;
for one in "$work"/crl.????; do [ ! "$crl" ] || revoke "$one"; done;
"""
# Of a PKCS#12 file the gateway's certificate comes first, then the intermediates.
_UNPACK = r"""
unpack() {
    openssl pkcs12 -in "$chain" -passin "${pass:+file:}${pass:-pass:}" "$@" 2>>"$work/log" ||
        openssl pkcs12 -in "$chain" -passin "${pass:+file:}${pass:-pass:}" -legacy "$@";
};
{ unpack -nokeys -clcerts; unpack -nokeys -cacerts; } >"$work/chain";
unpack -nocerts -nodes >"$work/key"; chain=$work/chain key=$work/key pass=;
"""
# A certificate that is in NSS already is only listed.
_LIST = rf"""
certutil -L -d "$nss" -n "$nick" -r >"$work/der";
echo "{LINE}certificate $(sha256sum <"$work/der" | cut -c1-64) $nick" >"$work/mark";
"""
# NSS has one CRL for a subject: it goes with an authority that had the subject before.
_AGAIN = r"""
sweep; for one in "$work"/crl.????.der; do
    [ ! "$crl" ] || crlutil -I -d "$nss" -i "$one" >/dev/null 2>&1 || :;
done;
"""
# For each cable: its mark, how many pairs of identities, the pairs.
_MARKS = rf"""
while [ $# -gt 0 ]; do
    to=$1 left=$2; shift 2; rm -f "$to.new";
    {{ while [ "$left" -gt 0 ]; do echo "{LINE}id $1"; shift; left=$((left - 1)); done;
    cat "$work/mark"; }} >"$to.new"; mv -f "$to.new" "$to";
done;
"""
# Of the next files, those that are missing stay as they are.
_ARGUMENTS = rf"""
of() {{ if [ -e "$1" ] || [ -L "$1" ]; then echo "$1"; else echo "${{1%{NEXT}}}"; fi; }};
nick=$1 chain=$(of "$2") key=$(of "$3") authority=$(of "$4") crl=$(of "$5") pass=$6 to=$7; shift 6;
"""
_CHECK = rf"""
found=$(for file in "$to" "$chain" "$key" "$authority" "$crl" "$pass"; do
    [ ! "$file" ] || odd "$file"; done); [ ! -d "$to" ] || found=$to; {secrets_file.REFUSE_ODD}
"""
_BEGIN = f"{secrets_file.ODD}{_ARGUMENTS}{_CHECK}{_OPEN}"
_FROM_PEM = _in_one_line(f"{_BEGIN}{_TOOLS}{_IMPORT}{_MARKS}{_AGAIN}{_CLOSE}")
_FROM_PKCS12 = _in_one_line(f"{_BEGIN}{_TOOLS}{_UNPACK}{_IMPORT}{_MARKS}{_AGAIN}{_CLOSE}")
_FROM_NSS = _in_one_line(f"{_BEGIN}{_LIST}{_MARKS}{_CLOSE}")
_REMOVE = _in_one_line(f'{_OPEN} rm -f "$1" "$1.new"; {_CLOSE}')


def fingerprint(der: bytes) -> str:
    """Return the SHA-256 of a certificate or CRL in hex, as a mark lists it."""
    return hashlib.sha256(der).hexdigest()


class Mark(Struct, frozen=True):
    """What a cable's mark lists: pairs of identities, and fingerprints with their nicknames."""

    pairs: tuple[str, ...] = ()
    certificates: dict[str, str] = {}
    authorities: dict[str, str] = {}
    crls: dict[str, str] = {}

    @property
    def names(self) -> frozenset[str]:
        """The nicknames that have to be in NSS."""
        return frozenset((*self.certificates.values(), *self.authorities.values()))


def parse_mark(text: str) -> Mark | None:
    """Return what a mark lists; None for a secrets file, which has a pre-shared key."""
    lines = [line.removeprefix(LINE) for line in text.splitlines() if line.startswith(LINE)]
    if not lines:
        return None
    found: dict[str, dict[str, str]] = {"certificate": {}, "authority": {}, "crl": {}}
    for line in lines:
        kind, _, rest = line.partition(" ")
        fingerprint, _, name = rest.partition(" ")
        if kind in found:
            found[kind][fingerprint] = name
    pairs = tuple(line.removeprefix("id ") for line in lines if line.startswith("id "))
    return Mark(pairs, found["certificate"], found["authority"], found["crl"])


def install_all(cables: Sequence[Cable]) -> Argv:
    """Return the command that imports the certificate of several cables of one file."""
    cert = cables[0].certificates
    program = _FROM_NSS if cert.nickname else _FROM_PKCS12 if cert.pkcs12 else _FROM_PEM
    return ("sh", "-c", program, "sh", *_arguments(cert), *_marks(cables))


def _arguments(cert: Cert) -> Argv:
    return (
        cert.nss_name,
        cert.certificate_path,
        cert.key_path,
        cert.authority_path,
        cert.crl,
        cert.passphrase_file,
    )


def _marks(cables: Sequence[Cable]) -> Iterator[str]:
    for cable in cables:
        pairs = secrets_file.pairs(cable)
        yield from (secrets_file.path(cable), str(len(pairs)), *pairs)


def remove(cable_id: str) -> tuple[Argv, Argv]:
    """Return the commands that remove what no other cable needs, and make pluto forget the key."""
    return (("sh", "-c", _REMOVE, "sh", secrets_file.path_of(cable_id)), REREAD_SECRETS)
