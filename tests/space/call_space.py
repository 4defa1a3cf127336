"""Run by the Space's Python: calls of `/edit`, each by a client of its own, all at once. Prints what came of them.

python call_space.py ADDRESS FOLDER '[["scene.png", "make it blue", 4], ...]'
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gradio_client import Client, handle_file


def call(address: str, folder: str, arguments: list[Any]) -> dict[str, str]:
    """The file of the result, or what the server says is wrong."""
    client = Client(address, download_files=folder, verbose=False, analytics_enabled=False)
    picture, *others = arguments
    try:
        made = client.predict(handle_file(picture), *others, api_name="/edit")
    except Exception as error:
        return {"error": str(error)}
    return {"picture": made["path"] if isinstance(made, dict) else made}


if __name__ == "__main__":
    address, folder, calls = sys.argv[1:]
    with ThreadPoolExecutor() as pool:
        print(json.dumps(list(pool.map(lambda each: call(address, folder, each), json.loads(calls)))))
