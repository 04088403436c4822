"""A small RTSP server of H.264 over the connection itself (RFC 2326, RFC 6184), as of a network camera."""

import base64
import re
import socket
import struct
import threading
import time
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import pytest

RATE, CLOCK, START = 25, 90_000, 4_321  # frames a second; ticks a second of RTP's times, and their first
START_CODE = re.compile(rb"\x00\x00\x00?\x01")


def encode(num_frames, size=(64, 48)):
    """Return the NAL units of each frame; frames are gray, each 18 brighter than the one before."""
    av = pytest.importorskip("av")
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height = size
    codec.pix_fmt, codec.time_base = "yuv420p", Fraction(1, RATE)
    codec.options = {"tune": "zerolatency", "preset": "ultrafast"}
    packets = []
    for i in range(num_frames):
        frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), 18 * (i % 12) + 20, np.uint8), format="bgr24")
        frame.pts = i
        packets += codec.encode(frame)
    packets += codec.encode(None)
    return [[unit for unit in START_CODE.split(bytes(packet)) if unit] for packet in packets]


def description(units):
    """Return the SDP of a stream with the parameters of its first frame."""
    parameters = [unit for unit in units if unit[0] & 31 in (7, 8)]
    sets = ",".join(base64.b64encode(unit).decode() for unit in parameters)
    lines = [
        *("v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=camera", "c=IN IP4 127.0.0.1", "t=0 0", "m=video 0 RTP/AVP 96"),
        *("a=rtpmap:96 H264/90000", f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={sets}", "a=control:track1"),
    ]
    return "".join(f"{line}\r\n" for line in lines)


class RtspServer:
    """Answers one client after the other.

    Attributes:
        address: Of the stream.
        transports: What the clients asked to receive it over.
        sent: Number of frames that were sent.
    """

    def __init__(self, num_frames, then="close", silent_to=None, rate=RATE):
        """
        Args:
            num_frames: Frames that are sent.
            then: "close" the connection, "reset" it, or stay "silent".
            silent_to: Method of RTSP that gets no answer.
            rate: Frames that are sent a second.
        """
        self._frames, self._then, self._silent_to, self._rate = encode(num_frames), then, silent_to, rate
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.transports, self.sent = [], 0
        self.address = f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/camera"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self):
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self):
        while not self._over.is_set():
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            try:
                with connection:
                    self._answer(connection)
            except OSError:
                pass  # the client left

    def _answer(self, connection):
        requests = connection.makefile("rb")
        while line := requests.readline().decode():
            method = line.split()[0]
            headers = {}
            while field := requests.readline().decode().strip():
                name, value = field.split(":", 1)
                headers[name.lower()] = value.strip()
            if method == self._silent_to:
                self._over.wait(10)
                return
            body, more = "", "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            if method == "DESCRIBE":
                body = description(self._frames[0])
                more = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
            elif method == "SETUP":
                self.transports.append(headers["transport"])
                more = f"Transport: {headers['transport']};ssrc=00000001\r\n"
            elif method == "PLAY":
                more = f"RTP-Info: url={self.address}/track1;seq=0;rtptime={START}\r\n"
            answer = f"RTSP/1.0 200 OK\r\nCSeq: {headers['cseq']}\r\nSession: 1\r\n{more}\r\n{body}"
            connection.sendall(answer.encode())
            if method == "PLAY":
                self._play(connection)
                return

    def _play(self, connection):
        number = 0
        for i, units in enumerate(self._frames):
            for unit in units:
                is_last = unit is units[-1]
                header = struct.pack(">BBHII", 0x80, 96 | is_last << 7, number, START + i * CLOCK // RATE, 1)
                connection.sendall(b"$\0" + struct.pack(">H", len(header + unit)) + header + unit)
                number += 1
            self.sent = i + 1
            time.sleep(1 / self._rate)
        if self._then == "silent":
            self._over.wait(10)
        elif self._then == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def rtsp_server(*args, **options):
    server = RtspServer(*args, **options)
    try:
        yield server
    finally:
        server.close()
