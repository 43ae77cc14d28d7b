"""The bytes of a picture -> its pixels, EXIF and thumbnail. Knows no table and no model."""
