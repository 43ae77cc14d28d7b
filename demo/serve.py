"""Serve the demo with Datasette, and print its address once the page answers.

python demo/serve.py DATABASE PORT
"""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path


def main() -> None:
    database, port = Path(sys.argv[1]), int(sys.argv[2])
    if is_in_use(port):
        sys.exit(f"port {port} is in use: make demo PORT={port + 1}")
    page = f"http://127.0.0.1:{port}/-/image-search/{database.stem}/images"
    command = [sys.executable, "-m", "datasette", "serve", str(database), "--port", str(port)]
    metadata = Path(__file__).with_name("metadata.yml")
    with subprocess.Popen([*command, "--metadata", str(metadata)]) as server:
        try:
            while server.poll() is None and not answers(page):
                time.sleep(0.1)
            if server.poll() is None:
                print(f"\nSearch the demo photos, Ctrl-C to stop: {page}", flush=True)
            sys.exit(server.wait())
        except KeyboardInterrupt:
            server.terminate()


def is_in_use(port: int) -> bool:
    with socket.socket() as probe:
        if os.name == "posix":
            # As the server does, whom connections that were just closed do not keep from a port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


def answers(page: str) -> bool:
    try:
        with urllib.request.urlopen(page, timeout=5):
            return True
    except (urllib.error.URLError, TimeoutError):
        return False


if __name__ == "__main__":
    main()
