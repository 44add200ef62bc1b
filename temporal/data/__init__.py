"""What networks see: features and labels of a split, the windows over them, and where they lie."""
