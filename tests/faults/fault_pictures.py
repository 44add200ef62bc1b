"""Mutated JPEGs and PNGs, decoded in a process apart: an error or a picture, never a crash, hang or flood.

Not a judge of pixels: libjpeg takes most flipped bits inside the coded data for warnings, and so do we.
"""

import io
import random
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

SLOW_SECONDS = 2.0


@dataclass
class Decoded:
    """What became of some files.

    Attributes:
        outcomes: ``error`` or ``picture``, and how often.
        slowest: seconds of the processor that the slowest one took.
        grown_mb: growth of the process's peak memory.
        wrong: what must not happen: other exceptions, pictures of another shape; one line each.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    grown_mb: float = 0.0
    wrong: list[str] = field(default_factory=list)


def originals() -> dict[str, bytes]:
    """JPEGs (baseline, progressive, grayscale, CMYK) and PNGs (colour, palette) of one drawing."""
    rng = np.random.default_rng(3)
    picture = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((64, 64))
    files = {}
    for name, mode, form, options in (
        ("baseline", "RGB", "JPEG", {"quality": 90}),
        ("progressive", "RGB", "JPEG", {"quality": 90, "progressive": True}),
        ("restarts", "L", "JPEG", {"quality": 90, "restart_marker_blocks": 2}),
        ("cmyk", "CMYK", "JPEG", {"quality": 90}),
        ("png", "RGB", "PNG", {}),
        ("palette", "P", "PNG", {}),
    ):
        buffer = io.BytesIO()
        picture.convert(mode).save(buffer, form, **options)
        files[name] = buffer.getvalue()
    return files


def mutate(data: bytes, seed: int) -> bytes:
    """One to four random faults: bits, bytes, lengths, cuts, copies, markers."""
    chance = random.Random(seed)
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        position = chance.randrange(len(changed))
        match chance.randrange(7):
            case 0:
                changed[position] ^= 1 << chance.randrange(8)
            case 1:
                changed[position] = chance.randrange(256)
            case 2:
                changed[position : position + 2] = chance.choice((b"\xff\xff", b"\x00\x00", b"\xff\xda"))
            case 3:
                del changed[position : position + chance.randint(1, 64)]
            case 4:
                changed[position:position] = changed[: chance.randint(1, 64)]
            case 5:
                start = chance.randrange(len(changed))
                changed[position : position + 32] = changed[start : start + 32]
            case 6:  # near the header, where sizes and tables are
                changed[chance.randrange(min(len(changed), 300))] = chance.randrange(256)
        if not changed:
            break
    return bytes(changed)


def mend(data: bytes) -> bytes:
    """Gives each whole chunk of a PNG the check sum that it should have, so that faults reach the decoder."""
    mended, position = bytearray(data), 8
    while position + 12 <= len(mended):
        end = position + 8 + int.from_bytes(mended[position : position + 4], "big")
        if end + 4 > len(mended):
            break
        mended[end : end + 4] = zlib.crc32(mended[position + 4 : end]).to_bytes(4, "big")
        position = end + 4
    return bytes(mended)


def decode_mutations(seeds: range) -> Decoded:
    """Decodes one mutation per seed; every other PNG with check sums that fit."""
    files = list(originals().items())

    def drawn(seed: int) -> bytes:
        name, data = files[seed % len(files)]
        changed = mutate(data, seed)
        return mend(changed) if name in ("png", "palette") and seed // len(files) % 2 else changed

    return _decode((f"seed {seed}", drawn(seed)) for seed in seeds)


def decode_truncations(name: str) -> Decoded:
    """Decodes one of the originals cut off at every byte; only errors are right."""
    data = originals()[name]
    found = _decode((f"{name} cut at {length}", data[:length]) for length in range(len(data)))
    found.wrong += [f"{found.outcomes['picture']} truncations decoded"] * bool(found.outcomes["picture"])
    return found


def _decode(files) -> Decoded:
    from extract.decode import DecodeError, decode

    found = Decoded()
    before = _peak_mb()
    for name, data in files:
        began = time.process_time()
        try:
            pixels = decode(data, 48)
            found.outcomes["picture"] += 1
            if pixels.shape != (48, 48, 3) or pixels.dtype != np.uint8:
                found.wrong.append(f"{name}: {pixels.dtype} {pixels.shape}")
        except DecodeError:
            found.outcomes["error"] += 1
        except Exception as error:  # noqa: BLE001 (that nothing else is raised is what is tested)
            found.wrong.append(f"{name}: {type(error).__name__}: {error}")
        found.slowest = max(found.slowest, time.process_time() - began)
    found.grown_mb = _peak_mb() - before
    return found


def _peak_mb() -> float:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return int(line.split()[1]) / 1024
