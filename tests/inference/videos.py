"""Small videos with sound, and what is in a video."""

from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest


def write_video(path, num_frames=12, rate=10, size=(64, 48), sound="aac", codec="libx264", container=None):
    """Write a video whose frames are gray, each 18 brighter than the one before, with a tone."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w", format=container) as file:
        video = file.add_stream(codec, rate=rate)
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        audio = file.add_stream(sound, rate=16000, layout="mono") if sound else None
        for i in range(num_frames):
            pixels = np.full((size[1], size[0], 3), 18 * (i % 12) + 20, np.uint8)
            file.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="bgr24")))
        file.mux(video.encode())
        if audio is not None:
            tone = (8000 * np.sin(np.arange(16000 * num_frames // rate) * 0.1)).astype(np.int16)
            resampler = av.AudioResampler(format=audio.format, layout="mono", rate=16000)
            for start in range(0, len(tone), 1024):
                samples = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="s16", layout="mono")
                samples.sample_rate, samples.pts, samples.time_base = 16000, start, Fraction(1, 16000)
                for converted in resampler.resample(samples):
                    file.mux(audio.encode(converted))
            file.mux(audio.encode())


class Video(NamedTuple):
    """What FFmpeg finds in a file."""

    rate: Fraction
    frames: list
    times: list
    sound: str
    sound_packets: list
    codec: str


def read_video(path):
    av = pytest.importorskip("av")
    with av.open(str(path)) as file:
        video, sounds = file.streams.video[0], file.streams.audio
        packets = [bytes(p) for p in file.demux(sounds[0]) if p.size] if sounds else []
        rate, codec = video.average_rate, video.codec_context.name
        sound = sounds[0].codec_context.name if sounds else ""
    with av.open(str(path)) as file:
        frames = [(x.to_ndarray(format="bgr24"), x.time) for x in file.decode(video=0)]
    return Video(rate, [x for x, _ in frames], [t for _, t in frames], sound, packets, codec)
