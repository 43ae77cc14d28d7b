"""Files -> rows: `scan` finds what changed, `decode` and `exif` read a file, `pipeline` runs the whole."""
