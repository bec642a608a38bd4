"""The catalogue: workflows, plans and who authorised them, tools, tokens, connections."""
