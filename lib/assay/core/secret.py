"""Secret for noise and sampling. A run's seed is published in its config, and anyone who has it can redraw the noise of private training.

    ASSAY_SECRET=...                    at least 16 random characters, for example from `openssl rand -hex 32`
    ASSAY_SECRET_FILE=~/.assay_secret   or a file with it that only its owner can read (mode 0600), outside the work directory

If a treatment requires it (`Treatment.secret`), the secret is folded into the key of every training stream and into the seed of the sample.
Initial parameters and data still derive from the seed alone. A run stores a salted fingerprint, which a resumed run uses to verify that
the secret is the same. Neither the secret nor a key derived from it is stored. Without a secret, streams derive from the published seed,
as `origin` reports. A JAX key has 64 bits, and so has any key derived from a secret, whatever its length.
"""

import hashlib
import os
import secrets
import stat
from pathlib import Path

import jax
import numpy as np

from assay.core.errors import UserError
from assay.core.file import read_json, read_text

VARIABLE, FILE = "ASSAY_SECRET", "ASSAY_SECRET_FILE"
SHORTEST = 16  # characters
PUBLISHED = "published seed"


def read(workdir: Path | None = None) -> bytes | None:
    """Returns the secret from the environment; None without one. Raises UserError if it is too short or readable by others."""
    said, file = os.environ.get(VARIABLE, ""), os.environ.get(FILE, "")
    if said and file:
        raise UserError(f"both {VARIABLE} and {FILE} are set. Unset one of them.")
    if not said and not file:
        return None
    if file:
        said = _of_file(Path(file).expanduser(), workdir)
    found = said.strip().encode()
    if len(found) < SHORTEST:
        raise UserError(
            f"the secret of {FILE if file else VARIABLE} has {len(found)} characters; it needs at least {SHORTEST} random ones, "
            "for example from `openssl rand -hex 32`."
        )
    return found


def folded(key: jax.Array, words: jax.Array | np.ndarray) -> jax.Array:
    """Derives a key from another key and the words of a secret. Traceable."""
    for i in range(len(words)):
        key = jax.random.fold_in(key, words[i])
    return key


def words(secret: bytes) -> np.ndarray:
    """Returns the secret as uint32 [8], for `folded`. Pass it as an argument of a compiled function: compilation caches store constants."""
    return np.frombuffer(_hashed(secret, b"key"), np.uint32)


def seed_of(seed: int) -> int:
    """Returns the seed for draws on the host: 63 bits derived from the secret and the run's seed, or the seed itself without a secret."""
    secret = read()
    return seed if secret is None else int.from_bytes(_hashed(secret + seed.to_bytes(8, "little"), b"sample")[:8], "little") >> 1


def check(path: Path, secret: bytes | None, begun: bool) -> None:
    """Raises UserError if the secret is not that of the run: its fingerprint at `path`, or none if the run has `begun` without one."""
    if not path.exists():
        if begun and secret is not None:
            raise UserError(
                f"{path.parent} was started with the published seed, but a secret is set, which would change its noise and sample midway."
                f" Unset {VARIABLE} and {FILE}, or start from scratch with another --workdir."
            )
        return
    if secret is None:
        raise UserError(f"{path.parent} was started with a secret, which is not set. Set {VARIABLE}, or {FILE} to its file.")
    try:
        kept = read_json(path)
        same = secrets.compare_digest(_fingerprint(secret, bytes.fromhex(kept["salt"])), kept["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read: {error}. Start from scratch with another --workdir.") from None
    if not same:
        raise UserError(f"{path.parent} was started with another secret. Set {VARIABLE}, or {FILE}, to the original secret.")


def fingerprint(secret: bytes) -> dict[str, str]:
    """Returns the salted fingerprint that a run stores for `check`. It verifies a guess, at 50 ms per guess, and reveals nothing else."""
    salt = secrets.token_bytes(16)
    return {"salt": salt.hex(), "fingerprint": _fingerprint(secret, salt)}


def origin(path: Path) -> str:
    """Describes the origin of a run's randomness; `path` is the path of its fingerprint."""
    return "secret key" if path.exists() else PUBLISHED


# -- private --------------------------------------------------------------------------------------------------------------


def _of_file(path: Path, workdir: Path | None) -> str:
    try:
        whole = Path(os.path.realpath(path, strict=True))
        mode = stat.S_IMODE(whole.stat().st_mode)
        text = read_text(whole)
    except (OSError, ValueError) as error:
        raise UserError(f"the file of {FILE}, {path}, cannot be read: {error}. Choose another file, or set {VARIABLE}.") from None
    if mode & 0o077:
        raise UserError(f"the file of {FILE}, {path}, has mode {mode:04o}: others can read it. Set it with chmod 600.")
    if workdir is not None and whole.is_relative_to(os.path.realpath(workdir)):
        raise UserError(f"the file of {FILE}, {path}, is in the work directory, which is published. Move it out of {workdir}.")
    return text


def _hashed(secret: bytes, use: bytes) -> bytes:
    return hashlib.blake2b(secret, digest_size=32, person=use).digest()


def _fingerprint(secret: bytes, salt: bytes) -> str:
    return hashlib.scrypt(secret, salt=salt, n=2**14, r=8, p=1, dklen=16).hex()
