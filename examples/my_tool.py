"""A tool of one's own.

Start a worker for it with `headrace worker examples/my_tool.py`, then use it in a spec:

steps:
  - id: words
    tool: word_count
    with: {text: "to be or not to be"}
"""

import headrace
from headrace.ports.tool import ToolContext


@headrace.tool
def word_count(text: str, context: ToolContext, *, unique: bool = False) -> dict[str, int]:
    """Count the words of a text, or how many different ones it has."""
    words = text.split()
    context.log(f"counting {len(words)} words")
    return {"words": len(set(words) if unique else words)}


@headrace.tool(effect="write", idempotent=True)
def remember(name: str, value: str, context: ToolContext) -> dict[str, str]:
    """Keep a note as an artifact of the run. It says that it writes, so a plan with it needs an approval."""
    context.artifact("file", name, f"{name}.txt", body=value.encode())
    return {"name": name, "key": context.idempotency_key}
