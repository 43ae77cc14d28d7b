"""Pictures over HTTP: thumbnails and originals to a browser, uploads from one."""
