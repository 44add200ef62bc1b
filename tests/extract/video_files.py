"""Makes video files of drawn faces that move over a background, and of every defect, for the tests.

Faces are those of the embedded corpus, whose eyes are where the drawing says.
"""

from fractions import Fraction

import numpy as np

from extract.corpora.rendered.canvas import EYE_Y, Canvas, Shot
from extract.corpora.rendered.face import draw_face
from extract.corpora.rendered.identity import draw_identity
from extract.crops.detection import Detection, DetectorInfo

WIDTH, HEIGHT, FACE = 320, 240, 120
# Drawn people whom the cascade finds, as it finds nine in ten.
PEOPLE = (0, 3)


class Actor:
    """One drawn person: a square picture, and where its eyes are in it."""

    def __init__(self, seed, size=FACE, **shot):
        who = draw_identity(np.random.default_rng(seed))
        camera = Shot(**shot)
        self.picture = draw_face(who, {}, camera, size)
        points = np.array([[-who.eye_distance, EYE_Y], [who.eye_distance, EYE_Y]])
        self.eyes = (Canvas(camera, size).project(points) + 1) * size / 2


class FixedDetector:
    """Sees two faces in every picture, at once: for tests in which finding them is not the point."""

    info = DetectorInfo("fixed", (), ())
    eyes = np.array([[0.3, 0.4], [0.7, 0.4]])

    def __init__(self, *_):
        self.boxes = [np.array([8.0, 20.0, 40.0, 40.0]), np.array([70.0, 24.0, 44.0, 44.0])]

    def detect(self, picture):
        return [Detection(box, box[:2] + self.eyes * box[2:]) for box in self.boxes]


def background(frame, width=WIDTH, height=HEIGHT):
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    wave = 110 + 30 * np.sin((x + 2 * frame) / 40) + 20 * np.cos(y / 30)
    return np.repeat(wave[..., None], 3, axis=2).astype(np.uint8)


def scene(frame, placed, width=WIDTH, height=HEIGHT):
    """One picture: the background and every (actor, left, top) on it."""
    picture = background(frame, width, height)
    for actor, left, top in placed:
        size = len(actor.picture)
        picture[top : top + size, left : left + size] = actor.picture
    return picture


def walk(actor, frames, absent=()):
    """Pictures in which an actor moves to the right, and the eyes in each; None where it is not there."""
    pictures, eyes = [], []
    for frame in range(frames):
        left, top = 20 + 2 * frame, 50 + frame % 3
        there = frame not in absent
        pictures.append(scene(frame, [(actor, left, top)] if there else []))
        eyes.append(actor.eyes + np.array([left, top]) if there else None)
    return pictures, eyes


def write_video(path, pictures, *, codec="libx264", rate=30, pts=None, rotation=None, aspect=None, **options):
    """Encodes pictures; ``pts`` are time stamps in units of 1 / rate, or of ``time_base``."""
    import av

    time_base = options.pop("time_base", Fraction(1, rate))
    container_options = {"fflags": "+bitexact", **options.pop("container", {})}
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = time_base
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if codec == "libx264":
            stream.options = {"crf": "12", "preset": "ultrafast", "threads": "1", **options}
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number if pts is None else pts[number]
            frame.time_base = time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def crop_numbers(folder):
    return sorted(int(path.stem) for path in folder.iterdir())
