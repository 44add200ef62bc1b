"""Face crops out of video files: decode, detect, track, align, and write the tree that corpus readers read.

Not a corpus reader and not a face recogniser: who a face belongs to is told from where it is, frame by frame.
"""

from extract.crops.choices import CropOptions
from extract.crops.cropping import CropReport, FailedVideo, crop_videos

__all__ = ["CropOptions", "CropReport", "FailedVideo", "crop_videos"]
