"""A secret for noise and sampling: a run's seed is published in its config, and whoever has it can draw the noise of private training.

    ASSAY_SECRET=...                    at least 16 characters, drawn at random, such as `openssl rand -hex 32` writes them
    ASSAY_SECRET_FILE=~/.assay_secret   or a file of it that its owner alone can read (mode 0600), outside the work directory

Where a treatment asks for it (`Treatment.secret`), the secret is folded into the key of every stream of training and into the seed of the
sample. Initial parameters and data still follow from the seed alone. A run keeps a salted fingerprint, by which a resume knows that it
has the same secret: never the secret, nor a key that follows from it. Without one, streams are those of the published seed, and `origin`
says so. A JAX key has 64 bits; so has what follows from a secret of any length.
"""

import hashlib
import json
import os
import secrets
import stat
from pathlib import Path

import jax
import numpy as np

from assay.core.errors import UserError

VARIABLE, FILE = "ASSAY_SECRET", "ASSAY_SECRET_FILE"
SHORTEST = 16  # characters
PUBLISHED = "published seed"


def read(workdir: Path | None = None) -> bytes | None:
    """The secret that the environment gives; None without one. Raises UserError for one that is short, or that others can read."""
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
            f"the secret of {FILE if file else VARIABLE} has {len(found)} characters, and needs at least {SHORTEST} drawn at random, "
            "such as `openssl rand -hex 32` writes them."
        )
    return found


def folded(key: jax.Array, words: jax.Array | np.ndarray) -> jax.Array:
    """A key that follows from another one and from words of a secret. Traceable."""
    for i in range(len(words)):
        key = jax.random.fold_in(key, words[i])
    return key


def words(secret: bytes) -> np.ndarray:
    """The secret as uint32 [8], for `folded`: arguments of a compiled function, never constants, which a compilation cache keeps."""
    return np.frombuffer(_hashed(secret, b"key"), np.uint32)


def seed_of(seed: int) -> int:
    """The seed of what is drawn on the host: 63 bits that follow from the secret and the run's seed; the seed itself without a secret."""
    secret = read()
    return seed if secret is None else int.from_bytes(_hashed(secret + seed.to_bytes(8, "little"), b"sample")[:8], "little") >> 1


def check(path: Path, secret: bytes | None, begun: bool) -> None:
    """Raises UserError where a run whose fingerprint lies at `path`, or that has `begun` without one, has not the secret that it had."""
    if not path.exists():
        if begun and secret is not None:
            raise UserError(
                f"{path.parent} was begun with the published seed, and a secret is set, which would change its noise and its sample midway."
                f" Unset {VARIABLE} and {FILE}, or start anew with another --workdir."
            )
        return
    if secret is None:
        raise UserError(f"{path.parent} was begun with a secret, which is not set. Set {VARIABLE}, or {FILE} to its file.")
    try:
        kept = json.loads(path.read_text())
        same = secrets.compare_digest(_fingerprint(secret, bytes.fromhex(kept["salt"])), kept["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read: {error}. Start anew with another --workdir.") from None
    if not same:
        raise UserError(f"{path.parent} was begun with another secret. Set {VARIABLE}, or {FILE}, to the one that it had.")


def fingerprint(secret: bytes) -> dict[str, str]:
    """What a run keeps of its secret, for `check`: it tells whether a guess is right, at 50 ms a guess, and nothing else."""
    salt = secrets.token_bytes(16)
    return {"salt": salt.hex(), "fingerprint": _fingerprint(secret, salt)}


def origin(path: Path) -> str:
    """Where the randomness of a run comes from, in words: `path` is that of its fingerprint."""
    return "secret key" if path.exists() else PUBLISHED


# -- private --------------------------------------------------------------------------------------------------------------


def _of_file(path: Path, workdir: Path | None) -> str:
    try:
        whole = path.resolve(strict=True)
        mode = stat.S_IMODE(whole.stat().st_mode)
        text = whole.read_text()
    except (OSError, ValueError) as error:
        raise UserError(f"the file of {FILE}, {path}, cannot be read: {error}. Name another file, or set {VARIABLE}.") from None
    if mode & 0o077:
        raise UserError(f"the file of {FILE}, {path}, has mode {mode:04o}: others can read it. Set it with chmod 600.")
    if workdir is not None and whole.is_relative_to(workdir.resolve()):
        raise UserError(f"the file of {FILE}, {path}, lies in the work directory, which is published. Move it out of {workdir}.")
    return text


def _hashed(secret: bytes, use: bytes) -> bytes:
    return hashlib.blake2b(secret, digest_size=32, person=use).digest()


def _fingerprint(secret: bytes, salt: bytes) -> str:
    return hashlib.scrypt(secret, salt=salt, n=2**14, r=8, p=1, dklen=16).hex()
