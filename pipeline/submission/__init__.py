"""Submission files of the ABAW challenges: written from runs in the organisers' order, checked line by line.

Not an upload, and nothing is imported here: the command line loads the modules when they are used.
"""
