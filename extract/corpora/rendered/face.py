"""Draws one face: 12 action units move its parts, an identity shapes it, a camera takes it.

Parts are flat polygons with folds, drawn large enough to be seen at 112 pixels.

What each AU moves follows the Facial Action Coding System (Ekman & Friesen, 1978).
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from extract.corpora.rendered.canvas import EYE_Y, Canvas, Shot, curve, ellipse, mix, photograph
from extract.corpora.rendered.identity import Identity
from stores.editions import AU_12


def draw_face(
    who: Identity, aus: Mapping[str, float], shot: Shot, size: int, rng: np.random.Generator | None = None
) -> NDArray[np.uint8]:
    """Draws one frame.

    Args:
        who: the person.
        aus: intensity in [0, 1] for each of the 12 ABAW action units; an absent one is 0.
        shot: pose, light and camera.
        size: edge of the square picture in pixels.
        rng: source of the camera noise; needed only where ``shot.noise`` is above 0.

    Returns:
        (size, size, 3) uint8 RGB.
    """
    au = {name: float(aus.get(name, 0.0)) for name in AU_12}
    canvas = Canvas(shot, size)
    _draw_head(canvas, who, au)
    _draw_folds(canvas, who, au)
    _draw_hair(canvas, who)
    for side in (-1.0, 1.0):
        _draw_eye(canvas, who, au, shot, side)
        _draw_brow(canvas, who, au, side)
    _draw_nose(canvas, who, au)
    _draw_mouth(canvas, who, au)
    _draw_extras(canvas, who, shot)
    return photograph(canvas.image, shot, size, rng)


def _draw_head(canvas: Canvas, who: Identity, au: Mapping[str, float]) -> None:
    skin = np.asarray(who.skin)
    hair_wide = who.face_width + 0.1 + 0.12 * who.hair_side
    canvas.fill(ellipse(0, -0.3, hair_wide, 0.95), who.hair, lift=-0.5)
    if who.hair_side > 0.5:  # long hair falls beside the face
        canvas.fill(
            np.array(
                [[-hair_wide, -0.3], [hair_wide, -0.3], [hair_wide * 0.95, 1.3], [-hair_wide * 0.95, 1.3]]
            ),
            who.hair,
            lift=-0.5,
        )
    canvas.fill(np.array([[-0.36, 0.6], [0.36, 0.6], [0.5, 1.4], [-0.5, 1.4]]), skin * 0.72, lift=-0.3)
    for side in (-1.0, 1.0):
        canvas.fill(ellipse(side * (who.face_width + 0.02), -0.05, 0.08, 0.17, 16), skin * 0.86, lift=-0.25)
    drop = 0.2 * au["AU26"]
    outline = ellipse(0, 0, 1.0, 1.0, 56)
    lower = np.clip(outline[:, 1], 0, 1)
    half_width = who.face_width + (who.jaw_width - who.face_width) * lower**1.7 * 0.55
    below = outline[:, 1] > 0
    outline = np.stack(
        [
            outline[:, 0] * half_width,
            np.where(below, outline[:, 1] * (who.chin + drop), outline[:, 1] * 0.98),
        ],
        axis=1,
    )
    canvas.fill(outline, skin)
    if who.beard:
        beard = outline[(outline[:, 1] > 0.2)]
        canvas.fill(
            np.concatenate([beard, [[-0.35, 0.42], [0.35, 0.42]]]),
            mix(skin, who.hair, 0.25 + 0.4 * who.beard),
        )
        canvas.fill(ellipse(0, who.mouth_height + drop * 0.4, 0.36, 0.19), skin * 0.94)


def _draw_folds(canvas: Canvas, who: Identity, au: Mapping[str, float]) -> None:
    """Wrinkles, bulges and furrows: the evidence of AUs away from the moving parts."""
    skin = np.asarray(who.skin)
    fold, light = skin * 0.6, mix(skin, (255, 246, 236), 0.4)
    rosy = mix(skin, (214, 96, 92), 0.18 + 0.2 * who.cheek)
    deep = who.wrinkle
    drop = 0.2 * au["AU26"]
    top = EYE_Y - who.brow_height
    for row, y in enumerate((top - 0.14, top - 0.24)):
        inner = (au["AU1"] * (1.0 - 0.25 * row) + 0.5 * who.age) * deep
        canvas.stroke(curve((-0.2, y), (0, y - 0.05), (0.2, y)), 0.05 * inner, fold)
        outer = (au["AU2"] * (1.0 - 0.25 * row) + 0.5 * who.age) * deep
        for side in (-1.0, 1.0):
            canvas.stroke(
                curve((side * 0.28, y + 0.01), (side * 0.44, y - 0.04), (side * 0.6, y + 0.08)),
                0.05 * outer,
                fold,
            )
    for side in (-1.0, 1.0):
        frown = (au["AU4"] + 0.4 * who.age) * deep
        x = side * (0.075 - 0.02 * au["AU4"])
        canvas.stroke(
            curve((x, top - 0.12), (x * 0.75, EYE_Y - 0.12), (x * 1.1, EYE_Y + 0.01)), 0.055 * frown, fold
        )
        cheek = au["AU6"]
        lift = 0.1 * cheek + 0.04 * au["AU12"]
        canvas.fill(ellipse(side * 0.45, 0.2 - lift, 0.17 + 0.05 * cheek, 0.1 + 0.05 * cheek), rosy)
        if cheek > 0.04:  # AU6: the cheek bulges under the eye and crow's feet fan out from its outer corner
            canvas.fill(ellipse(side * 0.43, 0.1 - lift, 0.16 * (0.4 + 0.6 * cheek), 0.075 * cheek), light)
            canvas.stroke(
                curve((side * 0.2, 0.0), (side * 0.4, 0.075 - 0.04 * cheek), (side * 0.6, -0.04)),
                0.06 * cheek * deep,
                fold,
            )
            for rise in (-0.1, 0.0, 0.1):
                canvas.stroke(
                    curve(
                        (side * 0.57, EYE_Y + rise * 0.4),
                        (side * 0.64, EYE_Y + rise * 0.8),
                        (side * 0.72, EYE_Y + rise * 1.3),
                    ),
                    0.04 * cheek * deep,
                    fold,
                )
        nasolabial = np.clip(0.55 * au["AU12"] + 0.95 * au["AU10"] + who.age, 0, 1.3) * deep
        bow = 0.06 * au["AU12"] + 0.02
        canvas.stroke(
            curve(
                (side * (who.nose_width + 0.03), 0.2 - 0.06 * au["AU10"]),
                (side * (0.3 + bow + 0.04 * au["AU10"]), 0.32 - 0.05 * au["AU10"]),
                (side * (0.4 + bow), 0.56 - 0.08 * au["AU12"]),
            ),
            0.075 * nasolabial,
            fold,
        )
        marionette = (au["AU15"] + 0.3 * who.age) * deep
        corner = (side * (who.mouth_width + 0.03), who.mouth_height + 0.1 + drop * 0.5)
        canvas.stroke(
            curve(corner, (corner[0] * 1.1, corner[1] + 0.1), (corner[0] * 1.0, corner[1] + 0.2)),
            0.06 * marionette,
            fold,
        )
    if au["AU15"] > 0.04:  # the chin boss dimples
        y = who.mouth_height + 0.25 + drop
        canvas.stroke(
            curve((-0.15, y + 0.04), (0, y - 0.04), (0.15, y + 0.04)), 0.06 * au["AU15"] * deep, fold
        )


def _draw_hair(canvas: Canvas, who: Identity) -> None:
    """The cap of hair; drawn after the forehead's folds, which it covers."""
    temple = who.face_width * 0.98
    hairline = curve((-temple, -0.42), (0, who.hair_line - 0.02 + 0.28 * who.fringe), (temple, -0.42))
    crown = curve((who.face_width + 0.06, -0.4), (0, -1.6), (-who.face_width - 0.06, -0.4))
    canvas.fill(np.concatenate([hairline, crown]), who.hair, lift=0.02)


def _draw_eye(canvas: Canvas, who: Identity, au: Mapping[str, float], shot: Shot, side: float) -> None:
    skin = np.asarray(who.skin)
    x, width = side * who.eye_distance, who.eye_width
    wide = who.eye_height * (1.12 + 0.25 * min(au["AU1"], au["AU2"]))
    upper = wide * (1 - 0.42 * au["AU7"] - 0.1 * au["AU6"] - 0.12 * au["AU4"]) * (1 - shot.blink)
    lower = wide * 0.8 * (1 - 0.62 * au["AU7"] - 0.45 * au["AU6"]) * (1 - 0.7 * shot.blink)
    left, right = (x - width, EYE_Y), (x + width, EYE_Y)
    lid = 0.035 + 0.03 * au["AU7"]
    socket = np.concatenate(
        [curve(left, (x, EYE_Y - upper - lid), right), curve(right, (x, EYE_Y + lower + lid * 0.8), left)]
    )
    canvas.fill(socket, skin * (0.74 - 0.1 * au["AU7"]))
    opening = np.concatenate([curve(left, (x, EYE_Y - upper), right), curve(right, (x, EYE_Y + lower), left)])
    if upper + lower > 0.02:
        canvas.fill(opening, (238, 236, 232))
        centre, radius = x + shot.gaze * width, 0.085
        angle = np.linspace(0, 2 * np.pi, 22, endpoint=False)
        for share, colour in ((1.0, who.iris), (0.5, (16.0, 14.0, 14.0))):
            disc = np.stack(
                [centre + radius * share * np.cos(angle), EYE_Y + radius * share * np.sin(angle)], axis=1
            )
            span = np.clip(
                1 - ((disc[:, 0] - x) / width) ** 2, 0, 1
            )  # the lids cover what sticks out of the opening
            disc[:, 1] = np.clip(disc[:, 1], EYE_Y - upper * span, EYE_Y + lower * span)
            canvas.fill(disc, colour)
    canvas.stroke(curve(left, (x, EYE_Y - upper), right), 0.035, (28.0, 22.0, 22.0))
    if au["AU7"] > 0.04:  # lid tightener: a straight, hard lower lid
        canvas.stroke(
            curve((x - width, EYE_Y + 0.015), (x, EYE_Y + lower + 0.02), (x + width, EYE_Y + 0.015)),
            0.05 * au["AU7"] * who.wrinkle,
            skin * 0.5,
        )


def _draw_brow(canvas: Canvas, who: Identity, au: Mapping[str, float], side: float) -> None:
    base = EYE_Y - who.brow_height
    inner_y = base - 0.15 * au["AU1"] + 0.12 * au["AU4"] - who.brow_tilt
    outer_y = base - 0.15 * au["AU2"] + 0.05 * au["AU4"] + who.brow_tilt + 0.02
    middle_y = (inner_y + outer_y) / 2 - 0.035 - 0.03 * au["AU2"]
    inner_x = who.eye_distance - who.brow_width - 0.05 * au["AU4"]
    outer_x = who.eye_distance + who.brow_width
    t = np.linspace(0, 1, 12)
    line = curve((inner_x, inner_y), ((inner_x + outer_x) / 2, middle_y), (outer_x, outer_y))
    half = who.brow_thickness / 2 * (1.15 - 0.75 * t**2)
    edge = np.concatenate([line - np.stack([0 * t, half], 1), (line + np.stack([0 * t, half], 1))[::-1]])
    canvas.fill(edge * (side, 1.0), who.brow, lift=0.03)


def _draw_nose(canvas: Canvas, who: Identity, au: Mapping[str, float]) -> None:
    skin = np.asarray(who.skin)
    tip = EYE_Y + who.nose_length - 0.025 * au["AU10"]
    wide = who.nose_width * (1 + 0.22 * au["AU10"])
    canvas.fill(
        np.array(
            [
                [-0.045, EYE_Y - 0.02],
                [0.045, EYE_Y - 0.02],
                [wide * 0.9, tip],
                [0, tip + 0.05],
                [-wide * 0.9, tip],
            ]
        ),
        skin * 0.9,
        lift=0.08,
    )
    canvas.fill(ellipse(0, tip - 0.02, wide * 0.62, 0.075, 20), mix(skin, (255, 248, 240), 0.16), lift=0.15)
    for side in (-1.0, 1.0):
        canvas.fill(
            ellipse(side * wide * 0.82, tip - 0.005 - 0.03 * au["AU10"], wide * 0.3, 0.055, 16),
            skin * 0.8,
            lift=0.08,
        )
        canvas.fill(ellipse(side * wide * 0.45, tip + 0.035, wide * 0.24, 0.022, 14), skin * 0.34, lift=0.1)
        if au["AU10"] > 0.04:  # the infraorbital triangle is pushed up beside the nose
            canvas.stroke(
                curve(
                    (side * 0.07, EYE_Y + 0.12),
                    (side * 0.14, tip - 0.16),
                    (side * (wide + 0.05), tip - 0.06),
                ),
                0.07 * au["AU10"] * who.wrinkle,
                skin * 0.62,
            )


def _draw_mouth(canvas: Canvas, who: Identity, au: Mapping[str, float]) -> None:
    skin = np.asarray(who.skin)
    press, tight = au["AU24"], au["AU23"]
    part = max(0.0, 1 - press)  # pressed lips do not part
    drop = 0.24 * au["AU26"] * part
    gap = (0.075 * au["AU25"] + 0.03 * au["AU10"] * au["AU25"]) * part + drop
    half = who.mouth_width * (
        1 + 0.3 * au["AU12"] - 0.34 * tight - 0.05 * press - 0.16 * au["AU26"] + 0.06 * au["AU15"]
    )
    middle = who.mouth_height
    corner = middle - 0.15 * au["AU12"] + 0.13 * au["AU15"] + drop * 0.35
    upper = who.upper_lip * (1 - 0.5 * tight - 0.75 * press)
    lower = who.lower_lip * (1 - 0.5 * tight - 0.75 * press) + 0.012
    raised = 0.085 * au["AU10"]
    top_in = middle - 0.25 * gap - raised * 0.8 + 0.02 * au["AU12"]
    low_in = top_in + gap
    bow = middle - upper - 0.25 * gap - raised + 0.02 * au["AU12"]
    floor = low_in + lower
    lips = mix(np.asarray(who.lips), skin, 0.3 * tight)
    left, right = (-half, corner), (half, corner)
    outer_top = np.concatenate(
        [
            curve(left, (-half * 0.5, (corner + bow) / 2 - 0.018 - raised * 0.35), (-0.055, bow)),
            curve((-0.055, bow), (0, bow + 0.018), (0.055, bow), 5),
            curve((0.055, bow), (half * 0.5, (corner + bow) / 2 - 0.018 - raised * 0.35), right),
        ]
    )
    inner_top = curve(left, (0, top_in), right, 20)
    inner_low = curve(right, (0, low_in), left, 20)
    outer_low = curve(right, (0, floor), left, 20)
    if press > 0.04:  # AU24: the skin around the pressed lips bulges and pales
        pale = mix(skin, (255, 246, 238), 0.45)
        canvas.fill(ellipse(0, middle - 0.085, half * 0.75, 0.055 * press), pale)
        canvas.fill(ellipse(0, middle + 0.1, half * 0.75, 0.065 * press), pale)
    canvas.fill(np.concatenate([outer_top, outer_low]), lips)
    if gap > 0.012:
        canvas.fill(np.concatenate([inner_top, inner_low]), (58.0, 18.0, 20.0))
        teeth = min(gap * 0.45, 0.06)
        inside = inner_top * (0.8, 1.0)
        inside[:, 1] = inner_top[:, 1]
        span = np.clip(1 - (inner_top[:, 0] / half) ** 2, 0, 1)
        canvas.fill(
            np.concatenate([inside, (inside + np.stack([0 * span, teeth * span], 1))[::-1]]),
            (232.0, 228.0, 218.0),
        )
    else:
        canvas.stroke(inner_top, 0.028 + 0.03 * press, np.asarray(who.lips) * 0.42)
    if tight > 0.04:  # AU23: short vertical creases in the narrowed lips
        for x in (-0.6, -0.2, 0.2, 0.6):
            canvas.stroke(
                np.array(
                    [[x * half, middle - upper - 0.07], [x * half, middle], [x * half, middle + lower + 0.07]]
                ),
                0.034 * tight * who.wrinkle,
                skin * 0.58,
            )
    canvas.stroke(
        curve((-0.13, floor + 0.06), (0, floor + 0.085), (0.13, floor + 0.06)),
        0.03 + 0.02 * press,
        skin * 0.74,
    )
    for side in (-1.0, 1.0):  # lip corners: dimple of AU12, depressor of AU15
        depth = 0.03 + 0.035 * max(au["AU12"], au["AU15"])
        canvas.fill(ellipse(side * half, corner, depth * 0.8, depth * 0.7, 12), skin * 0.55)


def _draw_extras(canvas: Canvas, who: Identity, shot: Shot) -> None:
    if who.glasses:
        for side in (-1.0, 1.0):
            ring = ellipse(side * who.eye_distance, EYE_Y + 0.02, who.eye_width + 0.07, 0.17, 30)
            for a, b in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                across = np.array([-(b - a)[1], (b - a)[0]])
                across *= who.glasses / 2 / (np.linalg.norm(across) + 1e-9)
                canvas.fill(
                    np.array([a + across, b + across, b - across, a - across]), (34.0, 30.0, 32.0), lift=0.08
                )
        canvas.fill(
            np.array([[-0.1, EYE_Y - 0.01], [0.1, EYE_Y - 0.01], [0.1, EYE_Y + 0.02], [-0.1, EYE_Y + 0.02]]),
            (34.0, 30.0, 32.0),
            lift=0.12,
        )
    if shot.occluder is not None:
        it = shot.occluder
        canvas.fill(ellipse(it.x, it.y, it.width, it.height), it.colour, lift=0.2)
        canvas.fill(
            ellipse(it.x, it.y, it.width * 0.85, it.height * 0.85), np.asarray(it.colour) * 1.08, lift=0.2
        )
