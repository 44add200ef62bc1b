"""Parsers that corpus readers share: lists, tables, codes and boxes, each checked by file and line."""
