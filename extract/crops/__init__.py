"""Face crops out of video files: decode, detect, track, align, and write the tree that corpus readers read.

It recognises nobody: who a face belongs to is told from where it is, frame by frame.
"""
