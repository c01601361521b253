"""Who published a version: ed25519 signatures over the exact bytes of manifest.json.

The manifest holds a checksum of every file, so one signature covers the version. The `cryptography` package
is an extra, loaded only where somebody signs or asks for signatures.
"""

import base64
import binascii
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve.errors import RegistryError
from fastserve.registry import files

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE_FILE = "manifest.sig"
MAX_SIGNATURE_BYTES = 1024

_MAX_KEY_BYTES = 64 * 1024


class SigningKey:
    """A private ed25519 key. Safe from any number of threads."""

    def __init__(self, key: "Ed25519PrivateKey") -> None:
        self._key = key

    @classmethod
    def load(cls, path: Path) -> "SigningKey":
        """Read a private key from a PEM file; RegistryError names the file and what is wrong with it."""
        _require()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        return cls(_loaded(path, "private", partial(load_pem_private_key, password=None), Ed25519PrivateKey))

    def sign(self, data: bytes) -> bytes:
        """Sign what a file holds; the answer is the content of the file beside it, one line of base64."""
        return base64.b64encode(self._key.sign(data)) + b"\n"


class TrustedKeys:
    """Public ed25519 keys, any of which may have signed. Safe from any number of threads."""

    def __init__(self, keys: Iterable["Ed25519PublicKey"]) -> None:
        self._keys = tuple(keys)

    @classmethod
    def load(cls, paths: Iterable[Path]) -> "TrustedKeys":
        """Read public keys from PEM files; RegistryError names the file and what is wrong with it."""
        _require()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        return cls(_loaded(path, "public", load_pem_public_key, Ed25519PublicKey) for path in paths)

    def accept(self, data: bytes, signature: bytes) -> bool:
        """Tell whether `signature`, as `sign` gave it, is one of these keys' over exactly this data."""
        from cryptography.exceptions import InvalidSignature

        try:
            raw = base64.b64decode(signature.removesuffix(b"\n"), validate=True)
        except binascii.Error:
            return False
        for key in self._keys:
            with suppress(InvalidSignature):
                key.verify(raw, data)
                return True
        return False


def generate(private: Path, public: Path) -> None:
    """Make a pair of keys in two new PEM files, the private one for the owner's eyes only.

    Raises
    ------
    RegistryError
        One of the files is there already, or cannot be written; neither is left half done.
    """
    _require()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    shown = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _write_new(private, secret, 0o600)
    try:
        _write_new(public, shown, 0o644)
    except BaseException:
        private.unlink(missing_ok=True)
        raise


def _require() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise RegistryError(
            "signatures need the package 'cryptography': pip install 'fastserve[sign]'"
        ) from error


def _loaded(path: Path, half: str, parse: Callable[[bytes], Any], kind: type) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        with files.open_regular(path) as reader:
            data = reader.read(_MAX_KEY_BYTES + 1)
    except OSError as error:
        raise RegistryError(f"key '{path}' cannot be read: {error.strerror}") from error
    if len(data) > _MAX_KEY_BYTES:
        raise RegistryError(f"{path} is not a key: it is larger than {_MAX_KEY_BYTES} bytes")
    try:
        key = parse(data)
    except TypeError as error:  # cryptography's word for a key that wants a password
        raise RegistryError(
            f"{path} is encrypted; only private keys without a password can be used"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        swapped = {"private": b"PUBLIC KEY", "public": b"PRIVATE KEY"}[half]
        hint = ": it holds the other half of a pair" if swapped in data else ""
        raise RegistryError(f"{path} is not a {half} key in PEM format{hint}") from error
    if not isinstance(key, kind):
        raise RegistryError(f"{path} holds another kind of key than ed25519")
    return key


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError as error:
        raise RegistryError(f"'{path}' is there already; keys are not overwritten") from error
    except OSError as error:
        raise RegistryError(f"'{path}' cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as writer:
            writer.write(content)
            writer.flush()
            os.fsync(writer.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise RegistryError(f"'{path}' cannot be written: {error.strerror}") from error
