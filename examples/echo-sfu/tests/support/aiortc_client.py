"""One aiortc connection to the SFU, for the tests.

    aiortc_client.py echo|play URL

Writes a line of JSON a second: what has arrived so far. Leaves when its standard input ends.
"""

import asyncio
import json
import sys
import urllib.request
from urllib.parse import urljoin

import av
from aiortc import AudioStreamTrack, RTCConfiguration, RTCPeerConnection
from aiortc import RTCSessionDescription, VideoStreamTrack
from aiortc.mediastreams import MediaStreamError

# What `echo` sends is this bright all over, out of 255.
LUMA = 180


class Bright(VideoStreamTrack):
    """A picture of one brightness."""

    async def recv(self):
        pts, time_base = await self.next_timestamp()
        frame = av.VideoFrame(320, 240, "yuv420p")
        for plane, value in zip(frame.planes, (LUMA, 128, 128)):
            plane.update(bytes([value]) * plane.buffer_size)
        frame.pts, frame.time_base = pts, time_base
        return frame


class Arrivals:
    """Counts what the tracks deliver."""

    def __init__(self):
        self.counters = {"video_frames": 0, "audio_frames": 0, "luma": 0}
        self.tasks = []

    def on_track(self, track):
        self.tasks.append(asyncio.ensure_future(self.consume(track)))

    async def consume(self, track):
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            self.counters[f"{track.kind}_frames"] += 1
            if track.kind == "video":
                # The first line; the plane itself has padding behind each.
                sample = bytes(frame.planes[0])[: frame.width]
                self.counters["luma"] = round(sum(sample) / len(sample))


def request(method, url, body=None):
    """An HTTP request: the status, the headers, the body."""
    headers = {"Content-Type": "application/sdp"} if body else {}
    asked = urllib.request.Request(url, data=body, headers=headers, method=method)
    with urllib.request.urlopen(asked, timeout=60) as response:
        return response.status, response.headers, response.read().decode()


def say(message):
    print(json.dumps(message), flush=True)


async def run(what, url):
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    arrivals = Arrivals()
    pc.on("track", arrivals.on_track)
    if what == "echo":
        pc.addTrack(AudioStreamTrack())
        pc.addTrack(Bright())
    else:
        pc.addTransceiver("audio", direction="recvonly")
        pc.addTransceiver("video", direction="recvonly")
    await pc.setLocalDescription(await pc.createOffer())
    offer = pc.localDescription.sdp.encode()
    _, headers, answer = await asyncio.to_thread(request, "POST", url, offer)
    session = urljoin(url, headers["Location"])
    await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    the_end = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    while not the_end.done():
        say({"state": pc.connectionState, **arrivals.counters})
        await asyncio.wait([the_end], timeout=1)
    status, _, _ = await asyncio.to_thread(request, "DELETE", session)
    say({"deleted": status})
    await pc.close()


asyncio.run(run(*sys.argv[1:]))
