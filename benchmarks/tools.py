"""The tools that benchmarks call: they do nothing, so that what is measured is headrace."""

import headrace


@headrace.tool(pool="bench")
async def plus_one(n: int) -> dict[str, int]:
    """Give a number plus one."""
    return {"n": n + 1}
