"""Read recordings: single files in many formats, and folders of them with their transcripts."""

import io
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from jaxtyping import Float
from scipy.signal import resample_poly

from headcount.checkpoints.loading import said
from headcount.door.extras import needing
from headcount.errors import DataError
from headcount.tasks.bounds import lines, opened, shown
from headcount.tasks.media import Medium, Row, called, media_files, subfolders

LOWEST_RATE, HIGHEST_RATE = 4_000, 384_000
"""Samples per second that a recording may have."""
_STREAMED = (0, 2**32 - 1)
"""What programs that write as they go put down as the size of a RIFF file."""


def beside(medium: Medium, folder: Path, call: str) -> list[Row]:
    """The recordings of a folder, each with its transcript in a text file of the same name.

    Args:
        medium: says what a recording is by its suffix.
        folder: the folder.
        call: beginning of every message.

    Raises:
        DataError: there are no recordings, or one has no transcript.
    """
    files, _ = media_files(medium, folder)
    if not files:
        inner = subfolders(folder)
        where = f" (its subfolder {shown(inner[0].name)} is not looked into)" if inner else ""
        raise DataError(
            f"{call}: the folder has no recording{where}. Give one with "
            f"{', '.join(medium.suffixes)} files and metadata.csv with the columns file_name and "
            "text, or with a transcript beside each (1.wav, 1.txt)."
        )
    rows = []
    for path in files:
        told = path.with_suffix(".txt")
        if not told.is_file():
            raise DataError(
                f"{call}: {shown(path.name)} has no transcript. Give {told.name!r} beside it, or "
                "metadata.csv with the columns file_name and text."
            )
        where = f"{call}: {told.name!r}"
        with opened(told, where) as file:
            text = " ".join(line.strip() for _, line in lines(file, where))
        rows.append((path, text, repr(path.name)))
    return rows


RECORDINGS = Medium(
    noun="recording",
    suffixes=(".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif"),
    setting="audio",
    columns=("audio", "file_name", "path", "file", "audio_path", "audio_file", "audio_filepath",
             "filename", "wav", "speech"),
    text_setting="text",
    text_columns=("text", "sentence", "transcription", "transcript", "normalized_text", "raw_text",
                  "utterance", "words"),
    folder=beside,
)  # fmt: skip
"""Recordings, and where tables have them and their transcripts."""


def decoded(
    file: Mapping[str, Any], place: str, *, rate: int, most_s: float
) -> Float[np.ndarray, " n"]:
    """A recording as samples in [-1, 1]: one channel, the mean of all, at a given rate.

    Args:
        file: ``bytes``, or else ``path``.
        place: where the recording stands, for messages.
        rate: samples per second that the model reads.
        most_s: the longest recording in seconds.

    Raises:
        DataError: it is no recording, is damaged, silent for want of samples, or too long.
    """
    call = called(file, place, "recording")
    if file["bytes"] is not None:
        return _samples(io.BytesIO(file["bytes"]), call, rate, most_s)
    with opened(Path(file["path"]), call) as content:
        return _samples(cast(BinaryIO, content), call, rate, most_s)


def _samples(content: BinaryIO, call: str, rate: int, most_s: float) -> np.ndarray:
    with needing("speech-recognition"):
        import soundfile
    try:
        _check_whole(content, call)
        with soundfile.SoundFile(content) as sound:
            own, frames = sound.samplerate, sound.frames
            _check_size(own, frames, call, most_s)
            found = sound.read(dtype="float32", always_2d=True)
    except DataError:
        raise
    except Exception as error:  # readers of single formats raise anything
        raise DataError(
            f"{call} cannot be read as a recording: {said(error)}. Give a whole WAV, FLAC, MP3 or "
            "Ogg file, or leave it out."
        ) from error
    if len(found) < frames:
        raise DataError(
            f"{call} is cut off: it says {frames} samples and has {len(found)}. Copy it again, or "
            "leave it out."
        )
    mono = found.mean(axis=1)
    if not np.isfinite(mono).all():
        raise DataError(
            f"{call} has samples that are no finite numbers. Make it anew, or leave it out."
        )
    if own == rate:
        return mono
    common = math.gcd(own, rate)
    return resample_poly(mono, rate // common, own // common).astype(np.float32)


def _check_whole(content: BinaryIO, call: str) -> None:
    """Refuse a WAV file that ends early: its reader would take what is there for all."""
    head = content.read(12)
    size = content.seek(0, io.SEEK_END)
    content.seek(0)
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return
    (stated,) = struct.unpack("<I", head[4:8])
    if stated not in _STREAMED and stated + 8 > size + 1:  # some leave the last odd byte out
        raise DataError(
            f"{call} is cut off: it says {stated + 8} bytes and has {size}. Copy it again, or "
            "leave it out."
        )


def _check_size(rate: int, frames: int, call: str, most_s: float) -> None:
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise DataError(
            f"{call} has {rate} samples per second; {LOWEST_RATE} to {HIGHEST_RATE} are read. "
            "Save it with 16000."
        )
    if not frames:
        raise DataError(f"{call} has no samples. Give a recording, or leave it out.")
    if frames / rate > most_s:
        raise DataError(
            f"{call} lasts {frames / rate:.1f} seconds; the model reads at most {most_s:g}. Split "
            "it, with the words of each part, or leave it out."
        )
