"""Submission files of the ABAW challenges: written in the organisers' order, checked line by line."""
