"""Draws ``faces.png``: some rendered people at rest and with each action unit at full intensity.

Not part of the pipeline: ``python docs/images/faces.py`` from the root of the repository remakes the picture.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from extract.corpora.rendered.canvas import Shot
from extract.corpora.rendered.face import draw_face
from extract.corpora.rendered.identity import draw_identity, generator
from stores.editions import AU_12

SIZE, CAPTION = 96, 14
columns = [("rest", {}), *((name, {name: 1.0}) for name in AU_12)]
people = [draw_identity(generator("sheet", person)) for person in (1, 3, 4, 6)]
rows = [np.concatenate([draw_face(who, aus, Shot(), SIZE) for _, aus in columns], axis=1) for who in people]
sheet = Image.new("RGB", (SIZE * len(columns), SIZE * len(rows) + CAPTION), "white")
sheet.paste(Image.fromarray(np.concatenate(rows)), (0, CAPTION))
for column, (name, _) in enumerate(columns):
    ImageDraw.Draw(sheet).text((column * SIZE + SIZE // 2, 1), name, fill="black", anchor="ma")
sheet.save(Path(__file__).with_suffix(".png"), optimize=True)
