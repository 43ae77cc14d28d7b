"""The life of a server: its start, its threads, the files of its databases, its end."""
