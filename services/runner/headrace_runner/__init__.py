"""The runner of headrace: performs tools, code and http."""
