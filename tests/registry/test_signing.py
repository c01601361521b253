"""Keys and signatures: made, read, refused, and what a version without the right one is worth."""

import base64
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fastserve.errors import RegistryError
from fastserve.registry import SIGNATURE_FILE, Registry, SigningKey, TrustedKeys, signing
from tests.registry.conftest import glance


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    private, public = tmp_path / "key.pem", tmp_path / "key.pub.pem"
    signing.generate(private, public)
    return private, public


@pytest.fixture
def other(tmp_path: Path) -> tuple[Path, Path]:
    private, public = tmp_path / "other.pem", tmp_path / "other.pub.pem"
    signing.generate(private, public)
    return private, public


def private_pem(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey, password: bytes = b"") -> bytes:
    encryption: KeySerializationEncryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def test_round_trip(pair: tuple[Path, Path], other: tuple[Path, Path]) -> None:
    signature = SigningKey.load(pair[0]).sign(b"data")
    assert len(base64.b64decode(signature, validate=False)) == 64
    assert signature.count(b"\n") == 1
    assert TrustedKeys.load([pair[1]]).accept(b"data", signature)
    assert TrustedKeys.load([other[1], pair[1]]).accept(b"data", signature)
    assert not TrustedKeys.load([pair[1]]).accept(b"data ", signature)
    assert not TrustedKeys.load([other[1]]).accept(b"data", signature)
    assert not TrustedKeys.load([]).accept(b"data", signature)


@pytest.mark.parametrize(
    "signature", [b"", b"\n", b"!!!", b"AAAA\n", b"\xff" * 64, b"A" * 88, b"A" * 86 + b"==\n"]
)
def test_signatures_that_are_none(pair: tuple[Path, Path], signature: bytes) -> None:
    assert not TrustedKeys.load([pair[1]]).accept(b"data", signature)


def test_every_bit_of_a_signature_counts(pair: tuple[Path, Path]) -> None:
    raw = base64.b64decode(SigningKey.load(pair[0]).sign(b"data"))
    trusted = TrustedKeys.load([pair[1]])
    for bit in range(0, 512, 7):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        assert not trusted.accept(b"data", base64.b64encode(changed))


def test_keys_are_for_their_owner_and_never_overwritten(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    private, public = pair
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = private.read_bytes(), public.read_bytes()
    with pytest.raises(RegistryError, match=r"key.pem' is there already"):
        signing.generate(private, tmp_path / "new.pub.pem")
    with pytest.raises(RegistryError, match=r"key.pub.pem' is there already"):
        signing.generate(tmp_path / "new.pem", public)
    (tmp_path / "link.pem").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RegistryError, match=r"link.pem' is there already"):
        signing.generate(tmp_path / "link.pem", tmp_path / "new.pub.pem")
    with pytest.raises(RegistryError, match=r"cannot be written: No such file"):
        signing.generate(tmp_path / "none/new.pem", tmp_path / "new.pub.pem")
    assert (private.read_bytes(), public.read_bytes()) == before
    assert not (tmp_path / "new.pem").exists()
    assert not (tmp_path / "new.pub.pem").exists()
    assert not (tmp_path / "nowhere").exists()


def test_private_keys_that_cannot_be_used(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    cases = {
        "garbage": (b"garbage", "is not a private key in PEM format$"),
        "empty": (b"", "is not a private key in PEM format$"),
        "huge": (b"x" * 100_000, "larger than 65536 bytes"),
        "ec": (private_pem(ec.generate_private_key(ec.SECP256R1())), "another kind of key than ed25519"),
        "locked": (private_pem(ed25519.Ed25519PrivateKey.generate(), b"secret"), "is encrypted"),
        "public": (pair[1].read_bytes(), "is not a private key in PEM format: it holds the other half"),
        "cut": (pair[0].read_bytes()[:60], "is not a private key in PEM format$"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(RegistryError, match=message) as caught:
            SigningKey.load(path)
        assert str(path) in str(caught.value)
    with pytest.raises(RegistryError, match=r"missing' cannot be read: No such file"):
        SigningKey.load(tmp_path / "missing")
    with pytest.raises(RegistryError, match=r"not a regular file|Is a directory"):
        SigningKey.load(tmp_path)


def test_public_keys_that_cannot_be_used(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    point = ec.generate_private_key(ec.SECP256R1()).public_key()
    cases = {
        "garbage": (b"garbage", "is not a public key in PEM format$"),
        "ec": (point.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "another kind of key"),
        "private": (pair[0].read_bytes(), "is not a public key in PEM format: it holds the other half"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(RegistryError, match=message) as caught:
            TrustedKeys.load([pair[1], path])
        assert str(path) in str(caught.value)


def test_without_the_package_a_sentence_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from pathlib import Path\n"
        "from fastserve.errors import RegistryError\n"
        "from fastserve.registry import SigningKey, TrustedKeys, signing\n"
        "p = Path('key.pem')\n"
        "for call in (lambda: SigningKey.load(p), lambda: TrustedKeys.load([p]), lambda: signing.generate(p, p)):\n"
        "    try: call()\n"
        "    except RegistryError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert (
        done.stdout.splitlines()
        == ["signatures need the package 'cryptography': pip install 'fastserve[sign]'"] * 3
    )


def test_the_package_is_not_loaded_before_it_is_needed() -> None:
    program = "import sys, fastserve.registry; print('cryptography' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "False\n"


def signed(registry: Registry, file: Path, key: Path) -> Path:
    """Publish version 1 of `m`, signed; give its directory."""
    assert registry.publish("m", file, inspect=glance, sign=SigningKey.load(key)) == 1
    return registry.path / "m/1"


def rewrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def test_a_signed_version_is_accepted_by_any_trusted_key(
    registry: Registry, onnx_file: Path, pair: tuple[Path, Path], other: tuple[Path, Path]
) -> None:
    signed(registry, onnx_file, pair[0])
    assert registry.audit("m")[0].details["signed"] is True
    for keys in ([pair[1]], [other[1], pair[1]]):
        assert Registry(registry.path, trusted=TrustedKeys.load(keys)).verify("m", 1).manifest is not None
    with pytest.raises(RegistryError, match=r"^m/1 is not signed by a trusted key$"):
        Registry(registry.path, trusted=TrustedKeys.load([other[1]])).verify("m", 1)
    assert registry.verify("m", 1).version == 1


def test_a_tampered_version_is_refused(registry: Registry, onnx_file: Path, pair: tuple[Path, Path]) -> None:
    version = signed(registry, onnx_file, pair[0])
    checking = Registry(registry.path, trusted=TrustedKeys.load([pair[1]]))
    manifest, signature = version / "manifest.json", version / SIGNATURE_FILE
    good = manifest.read_bytes()
    rewrite(manifest, good + b" ")  # the same to JSON, not to a signature
    with pytest.raises(RegistryError, match=r"is not signed by a trusted key"):
        checking.verify("m", 1)
    assert registry.verify("m", 1).version == 1
    rewrite(manifest, good)
    assert checking.verify("m", 1).version == 1
    rewrite(signature, b"x" * 2000)
    with pytest.raises(RegistryError, match=r"^m/1/manifest.sig is larger than 1024 bytes"):
        checking.verify("m", 1)
    signature.unlink()
    with pytest.raises(RegistryError, match=r"^m/1 is not signed: it has no manifest.sig$"):
        checking.verify("m", 1)
    manifest.unlink()
    with pytest.raises(RegistryError, match=r"^m/1 is not signed: it has no manifest.json$"):
        checking.verify("m", 1)
    assert registry.verify("m", 1).manifest is None


def test_a_signature_of_another_version_does_not_fit(
    registry: Registry, onnx_file: Path, pair: tuple[Path, Path]
) -> None:
    version = signed(registry, onnx_file, pair[0])
    (registry.path / "m/7").mkdir()
    for file in version.iterdir():
        (registry.path / "m/7" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(RegistryError, match=r"m/7/manifest.json belongs to m/1"):
        Registry(registry.path, trusted=TrustedKeys.load([pair[1]])).verify("m", 7)
