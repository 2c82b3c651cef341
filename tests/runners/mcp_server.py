"""A small MCP server over standard input and output, for tests: it tells the weather, and what it was given.

    python mcp_server.py FILE [WORD …]

FILE gets what it was started with, as JSON; the weather is told with the variable TOKEN of its environment.
"""

import json
import os
import sys
from pathlib import Path

TOOL = {"name": "weather", "description": "The weather", "inputSchema": {"type": "object"}}


def answer(message: dict[str, object]) -> dict[str, object]:
    given = message.get("params")
    parameters = given if isinstance(given, dict) else {}
    match message["method"]:
        case "initialize":
            about = {"name": "sky", "version": "1"}
            version = parameters["protocolVersion"]
            return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": about}
        case "tools/list":
            return {"tools": [TOOL]}
        case "tools/call":
            text = f"Sunny in {parameters['arguments']['city']}, says {os.environ.get('TOKEN', 'nobody')}"
            return {"content": [{"type": "text", "text": text}]}
    return {}


def main() -> None:
    Path(sys.argv[1]).write_text(json.dumps({"argv": sys.argv, "environment": dict(os.environ)}))
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message:
            print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": answer(message)}), flush=True)


if __name__ == "__main__":
    main()
