"""One reader of text and one of tables, for the labels of corpora and for features to import."""
