"""Finding faces, following them and turning them upright: detectors, tracks, people, alignment."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from video_files import PEOPLE, Actor, scene, walk

from extract.crops import alignment, detection
from extract.crops.detection import MAX_FACES, Detection
from extract.crops.tracking import LEAST_DETECTIONS, Tracker, people
from stores.errors import ConfigError

cv2 = pytest.importorskip("cv2")

MIDDLE = np.array([[0.3, 0.4], [0.7, 0.4]])
PLACE = np.array([100, 60])


@pytest.fixture(scope="module")
def haar():
    return detection.load("haar", None, 0.1)


def in_crop(points, landmarks, size=112):
    """Where ``points`` of a picture come to lie in the crop of a face with these landmarks."""
    matrix = alignment.similarity(landmarks, alignment.TEMPLATE[: len(landmarks)] * size / 112)
    return points @ matrix[:, :2].T + matrix[:, 2]


# Alignment


@settings(deadline=None, max_examples=50)
@given(
    st.floats(-3, 3),
    st.floats(0.1, 10),
    st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    st.sampled_from([2, 5]),
)
def test_a_turned_scaled_and_shifted_template_comes_back_exactly(angle, scale, shift, count):
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = alignment.TEMPLATE[:count] @ turn.T + shift
    np.testing.assert_allclose(in_crop(moved, moved), alignment.TEMPLATE[:count], atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_the_similarity_is_that_of_a_general_solver(seed):
    rng = np.random.default_rng(seed)
    source, target = rng.normal(size=(5, 2)) * 50, alignment.TEMPLATE
    rows = [[x, -y, 1, 0] for x, y in source] + [[y, x, 0, 1] for x, y in source]
    a, b, tx, ty = np.linalg.lstsq(np.array(rows), target.T.ravel(), rcond=None)[0]
    np.testing.assert_allclose(alignment.similarity(source, target), [[a, -b, tx], [b, a, ty]], atol=1e-9)


@pytest.mark.parametrize("scale", [0.7, 1.0, 3.0, 9.0])
@pytest.mark.parametrize("angle", [0.0, 0.4])
@pytest.mark.parametrize("size", [112, 224])
def test_marks_at_the_landmarks_come_to_lie_on_the_template(scale, angle, size):
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = (alignment.TEMPLATE - 56) @ turn.T + 600
    y, x = np.mgrid[:1200, :1200]
    picture = np.zeros((1200, 1200, 3), np.uint8)
    for left, top in landmarks:
        picture[np.hypot(x - left, y - top) <= 2.5 * scale] = 255
    crop = alignment.align(picture, landmarks, size)
    assert crop.shape == (size, size, 3)
    y, x = np.mgrid[:size, :size] * (112 / size)
    for left, top in alignment.TEMPLATE:
        near = np.hypot(x - left, y - top) < 8
        weight = crop[..., 0] * near
        centre = np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()
        assert np.hypot(*(centre - (left, top))) < 0.5


def test_outside_of_the_picture_is_black():
    crop = alignment.align(np.full((80, 80, 3), 200, np.uint8), alignment.TEMPLATE - 56, 112)
    assert crop[0, 0].tolist() == [0, 0, 0]
    assert crop[-1, -1].tolist() == [200, 200, 200]


# Detectors


@pytest.mark.parametrize("seed", PEOPLE)
@pytest.mark.parametrize("roll", [-0.12, 0.0, 0.12])
def test_the_default_detector_puts_the_eyes_of_a_face_on_the_template(haar, seed, roll):
    actor = Actor(seed, roll=roll)
    found = haar.detect(scene(0, [(actor, *PLACE)]))
    assert len(found) == 1
    eyes = actor.eyes + PLACE
    error = np.hypot(*(in_crop(eyes, found[0].landmarks) - alignment.TEMPLATE[:2]).T)
    assert error.max() < 4


def test_a_large_picture_is_searched_reduced_and_found_in_its_own_pixels(haar):
    actor = Actor(PEOPLE[0])
    picture = scene(0, [(actor, *PLACE)])
    large = cv2.resize(picture, None, fx=5, fy=5, interpolation=cv2.INTER_LINEAR)
    found = haar.detect(large)
    assert len(found) == 1
    np.testing.assert_allclose(found[0].landmarks, 5 * (actor.eyes + PLACE), atol=5 * 5)


def test_the_same_picture_gives_the_same_faces_whatever_the_threads(haar):
    picture = scene(0, [(Actor(PEOPLE[0]), 10, 60), (Actor(PEOPLE[1]), 180, 50)])
    before = cv2.getNumThreads()
    try:
        results = []
        for threads in (1, 4, 4, 4):
            cv2.setNumThreads(threads)
            results.append([(face.box.tolist(), face.landmarks.tolist()) for face in haar.detect(picture)])
    finally:
        cv2.setNumThreads(before)
    assert len(results[0]) == 2
    assert all(result == results[0] for result in results)


def test_a_picture_without_a_face_has_none(haar):
    assert not haar.detect(scene(0, []))
    assert not haar.detect(np.zeros((8, 8, 3), np.uint8))


def test_detectors_are_known_by_name_and_say_what_they_need(tmp_path):
    with pytest.raises(ConfigError, match="unknown detector 'dlib': expected one of haar, yunet"):
        detection.load("dlib", None, 0.1)
    with pytest.raises(ConfigError, match="haar takes none"):
        detection.load("haar", tmp_path / "x.onnx", 0.1)
    with pytest.raises(
        ConfigError, match=r"needs its network: give --model face_detection_yunet_2023mar\.onnx"
    ):
        detection.load("yunet", None, 0.1)
    with pytest.raises(ConfigError, match="expected a file"):
        detection.load("yunet", tmp_path / "nothing.onnx", 0.1)


@pytest.mark.parametrize("content", [b"", b"no network", bytes(1000), b"\x08\x07\x12\x04test"])
def test_a_model_file_that_is_no_yunet_is_an_error_that_names_it(tmp_path, content):
    path = tmp_path / "face.onnx"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"face\.onnx: not a YuNet model"):
        detection.load("yunet", path, 0.1)


def test_without_the_extra_the_error_says_what_to_run(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"opencv-python-headless.*uv sync --extra video"):
        detection.load("haar", None, 0.1)


def test_an_opencv_without_cascades_is_an_error_that_says_so(monkeypatch):
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(ConfigError, match="no cascades, the detector haar needs version 4"):
        detection.load("haar", None, 0.1)


class FakeYN:
    """Stands for OpenCV's FaceDetectorYN, whose model file no test may fetch: gives the rows it is told."""

    rows = None

    def setInputSize(self, size):
        self.size = size

    def detect(self, image):
        assert image.shape[:2] == (self.size[1], self.size[0])
        return 1, self.rows


@pytest.fixture
def yunet(monkeypatch, tmp_path):
    """The detector around a double of the network; the file's bytes must reach OpenCV unchanged."""
    model = tmp_path / "face_detection_yunet_2023mar.onnx"
    model.write_bytes(b"network")
    fake = FakeYN()

    def create(framework, data, config, size, score, overlap, candidates):
        assert (framework, data.tobytes(), len(config)) == ("onnx", b"network", 0)
        return fake

    monkeypatch.setattr(cv2, "FaceDetectorYN", SimpleNamespace(create=create))
    return detection.load("yunet", model, 0.1), fake


def test_yunet_gives_five_landmarks_in_the_order_of_the_template(yunet):
    detector, fake = yunet
    # x, y, w, h; right eye of the person (left in the picture), left eye, nose, mouth; score.
    face = np.array([10, 20, 100, 110, *(alignment.TEMPLATE + PLACE).ravel(), 0.95])
    flat = np.array([10, 20, 100, 110, *[50.0] * 10, 0.95])
    small = np.array([0, 0, 20, 25, *(alignment.TEMPLATE / 5).ravel(), 0.99])
    fake.rows = np.stack([small, flat, np.full(15, np.nan), face]).astype(np.float32)
    found = detector.detect(np.zeros((480, 640, 3), np.uint8))
    assert len(found) == 1
    np.testing.assert_allclose(in_crop(found[0].landmarks, found[0].landmarks), alignment.TEMPLATE, atol=1e-3)
    fake.rows = face[None].astype(np.float32)
    found = detector.detect(np.zeros((960, 1280, 3), np.uint8))  # searched at half the size
    np.testing.assert_allclose(found[0].landmarks, 2 * (alignment.TEMPLATE + PLACE), rtol=1e-5)
    fake.rows = None
    assert not detector.detect(np.zeros((480, 640, 3), np.uint8))


def test_the_digest_of_the_model_file_identifies_the_detector(yunet):
    import hashlib

    info = yunet[0].info.document()
    assert info["model"] == ["face_detection_yunet_2023mar.onnx"]
    assert info["model_sha256"] == [hashlib.sha256(b"network").hexdigest()]


def test_another_network_is_refused_when_it_gives_other_numbers(yunet, tmp_path):
    _, fake = yunet
    fake.rows = np.zeros((1, 4), np.float32)
    with pytest.raises(ConfigError, match="expected 15 a face"):
        detection.load("yunet", tmp_path / "face_detection_yunet_2023mar.onnx", 0.1)


# Tracks and people


def face(x, y=50.0, width=40.0, eyes=True):
    box = np.array([x, y, width, width])
    return Detection(box, box[:2] + MIDDLE * width if eyes else None)


def follow(found_by_frame, max_gap=5):
    """People of {frame: [detections]}; a frame that is not there has no face."""
    tracker = Tracker(max_gap)
    for frame in range(max(found_by_frame) + 1):
        tracker.add(frame, detection.largest_first(found_by_frame.get(frame, [])))
    return people(tracker.finish(), MIDDLE)


def test_a_moving_face_is_one_person_in_every_frame():
    (person,) = follow({frame: [face(10 + 3 * frame)] for frame in range(30)})
    assert person.frames.tolist() == list(range(30))
    assert not person.interpolated.any()
    np.testing.assert_allclose(person.landmarks[:, 0, 0], 10 + 3 * np.arange(30) + 12)


def test_a_short_gap_is_interpolated_and_marked_and_a_longer_one_stays_a_gap():
    found = {frame: [face(10 + 2 * frame)] for frame in range(40)}
    for frame in (8, 9, 10, *range(20, 26)):
        del found[frame]
    (person,) = follow(found)
    assert person.frames[person.interpolated].tolist() == [8, 9, 10]
    assert sorted(set(range(40)) - set(person.frames.tolist())) == list(range(20, 26))
    np.testing.assert_allclose(person.landmarks[8:11, 0, 0], 10 + 2 * np.array([8, 9, 10]) + 12)
    (person,) = follow(found, max_gap=0)
    assert not person.interpolated.any()
    assert person.frames.tolist() == sorted(found)


def test_nothing_is_made_up_before_the_first_or_after_the_last_detection():
    (person,) = follow({frame: [face(10)] for frame in range(10, 20)} | {40: []})
    assert person.frames.tolist() == list(range(10, 20))


def test_a_flash_of_a_few_frames_is_no_face():
    found = {frame: [face(10)] for frame in range(20)}
    for frame in range(LEAST_DETECTIONS - 1):
        found[frame].append(face(300))
    assert len(follow(found)) == 1


def test_two_people_are_told_apart_and_the_larger_and_longer_comes_first():
    found = {frame: [face(10, width=30), face(200, width=60)] for frame in range(20)}
    large, small = follow(found)
    assert (large.centre, small.centre) == (230, 25)
    assert len(large.frames) == len(small.frames) == 20


def test_people_who_cross_at_a_distance_keep_their_tracks():
    found = {frame: [face(10 + 6 * frame, y=20), face(190 - 6 * frame, y=90)] for frame in range(30)}
    first, second = follow(found)
    assert {first.landmarks[0, 0, 0] < 100, second.landmarks[0, 0, 0] < 100} == {True, False}
    for person in (first, second):
        assert np.ptp(np.diff(person.landmarks[:, 0, 0])) < 1e-9


def test_a_face_that_comes_back_near_its_place_is_the_same_person_and_a_far_one_is_not():
    before = {frame: [face(100)] for frame in range(10)}
    assert len(follow(before | {frame: [face(130)] for frame in range(50, 60)})) == 1
    assert len(follow(before | {frame: [face(400)] for frame in range(50, 60)})) == 2
    assert len(follow(before | {frame: [face(100, width=100)] for frame in range(50, 60)})) == 2


def test_eyes_that_are_shut_for_a_while_are_where_they_were_in_the_box():
    found = {frame: [face(10 + frame, eyes=not 5 <= frame < 15)] for frame in range(20)}
    (person,) = follow(found)
    np.testing.assert_allclose(person.landmarks[:, 0, 0], 10 + np.arange(20) + 12)
    (person,) = follow({frame: [face(10, eyes=False)] for frame in range(20)})
    np.testing.assert_allclose(person.landmarks[0], [[22, 66], [38, 66]])


def test_a_crowd_is_bounded():
    assert len(detection.largest_first([face(x * 50) for x in range(100)])) == MAX_FACES


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.lists(st.tuples(st.floats(0, 500), st.floats(20, 100)), max_size=4), min_size=1, max_size=40)
)
def test_whatever_is_detected_no_person_is_in_a_frame_twice_or_far_from_a_detection(found):
    frames = {i: [face(x, width=width) for x, width in faces] for i, faces in enumerate(found)}
    for person in follow(frames, max_gap=3):
        assert (np.diff(person.frames) > 0).all()
        detected = person.frames[~person.interpolated]
        for frame in person.frames[person.interpolated]:
            assert detected[detected < frame].max() >= frame - 3
            assert detected[detected > frame].min() <= frame + 3
        for frame, landmarks in zip(person.frames, person.landmarks, strict=True):
            if frame in detected:
                assert any(np.allclose(landmarks, each.landmarks) for each in frames[frame])


def test_the_default_detector_follows_a_drawn_face_in_every_frame(haar):
    pictures, eyes = walk(Actor(PEOPLE[0]), 25)
    tracker = Tracker(5)
    for frame, picture in enumerate(pictures):
        tracker.add(frame, haar.detect(picture))
    person = people(tracker.finish(), haar.eyes)[0]
    assert person.frames.tolist() == list(range(25))
    errors = [
        np.hypot(*(in_crop(true, found) - alignment.TEMPLATE[:2]).T).max()
        for true, found in zip(eyes, person.landmarks, strict=True)
    ]
    assert np.median(errors) < 3
    assert max(errors) < 6
