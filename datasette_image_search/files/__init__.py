"""Files and folders, whatever is in them. Knows no picture and no database."""
