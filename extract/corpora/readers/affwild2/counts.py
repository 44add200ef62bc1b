"""Counts of the Aff-Wild2 releases, so that a copy that is cut short is told from one that is complete.

Not a check of a format: subsets and copies of other makings are read all the same, and merely noted.

Sources: counts of crops and of labelled frames that entries of ABAW-5 and ABAW-7 published with their code.
ABAW-6, 8 and 10 were not counted: as far as is known they have the labels of ABAW-5 and are compared with it.
"""

_CROPS = {"crops": 2_941_546}
_AUDIOVISUAL = {
    "VA labels, train": 1_653_757 + 26_387,
    "VA labels, validation": 376_323 + 5_698,
    "EXPR labels, train": 586_959 + 10_402,
    "EXPR labels, train, with a crop": 586_959,
    "EXPR labels, validation": 279_749 + 4_481,
    "EXPR labels, validation, with a crop": 279_749,
    "AU labels, train": 1_356_694 + 2_829,
    "AU labels, validation": 445_836 + 9,
    "videos in the VA list": 162,
    "rows in the VA list": 927_210,
    "videos in the EXPR list": 228,
    "rows in the EXPR list": 1_022_655,
    "videos in the AU list": 141,
    "rows in the AU list": 729_736,
}
_STATIC = {
    "rows, train": 142_382,
    "clips, train": 257,
    "repeated names, train": 951,
    "VA labels, train": 103_917,
    "EXPR labels, train": 90_645,
    "AU labels, train": 103_316,
    "rows, validation": 26_876,
    "clips, validation": 50,
    "repeated names, validation": 210,
    "VA labels, validation": 26_876,
    "EXPR labels, validation": 15_440,
    "AU labels, validation": 26_876,
    "rows in the MTL list": 51_159,
}
RELEASES: dict[str, dict[str, int]] = {
    "abaw3": {"videos in the VA list": 152, "videos in the EXPR list": 228, "videos in the AU list": 141},
    **dict.fromkeys(("abaw5", "abaw6", "abaw8", "abaw10"), _CROPS | _AUDIOVISUAL),
}
"""Edition -> what its challenge folders, crops and lists hold."""
MULTITASK: dict[str, dict[str, int]] = {
    "abaw3": {"rows in the MTL list": 51_245},
    **dict.fromkeys(("abaw4", "abaw7", "abaw11"), _STATIC),
}
"""Edition -> what its multi-task files hold (s-Aff-Wild2 from ABAW-4 on)."""
