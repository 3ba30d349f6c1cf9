"""Whether one certificate's key signed another certificate or a revocation list."""

from typing import cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import HashAlgorithm

from cablectl.identity.certificate import Certificate, RevocationList


def signed(child: Certificate, issuer: Certificate) -> bool:
    """Tell whether the issuer's key signed a certificate."""
    loaded = x509.load_der_x509_certificate(child.der)
    try:
        key = x509.load_der_x509_certificate(issuer.der).public_key()
        _verify(loaded, key)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False  # also a kind of signature that no key of this kind makes
    return True


def signed_list(crl: RevocationList, issuer: Certificate) -> bool:
    """Tell whether the issuer's key signed a revocation list."""
    try:
        key = x509.load_der_x509_certificate(issuer.der).public_key()
        return x509.load_der_x509_crl(crl.der).is_signature_valid(
            cast("rsa.RSAPublicKey", key)  # any other kind is a TypeError
        )
    except (UnsupportedAlgorithm, ValueError, TypeError):
        return False


def _verify(child: x509.Certificate, key: object) -> None:
    """Raise InvalidSignature unless the key signed a certificate.

    The library has this since release 40, and Debian 12 has 38.
    """
    algorithm = child.signature_hash_algorithm  # None for Ed25519
    match key:
        case rsa.RSAPublicKey():
            parameters = getattr(child, "signature_algorithm_parameters", padding.PKCS1v15())
            key.verify(
                child.signature,
                child.tbs_certificate_bytes,
                parameters,
                cast("HashAlgorithm", algorithm),
            )
        case ec.EllipticCurvePublicKey():
            key.verify(
                child.signature,
                child.tbs_certificate_bytes,
                ec.ECDSA(cast("HashAlgorithm", algorithm)),
            )
        case ed25519.Ed25519PublicKey():
            key.verify(child.signature, child.tbs_certificate_bytes)
        case _:
            raise InvalidSignature
