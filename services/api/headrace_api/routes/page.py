"""The one page that a browser gets: what answers here, and how programs and people sign in. There is nothing else to see."""

from typing import Final

from fastapi import APIRouter, Response

from headrace import __version__

PATHS: Final = ("/", "/api", "/api/docs", "/docs")
"""Where people look first."""
PAGE: Final = f"""\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>headrace</title></head>
<body>
<h1>headrace {__version__}</h1>
<p>This is the HTTP interface of headrace, which runs workflows. It answers programs in JSON under <code>/api</code>; this
is its only page, and there is nothing here to click through.</p>
<h2>Sign in</h2>
<p>Requests carry an access token: <code>Authorization: Bearer hr_…</code> (or <code>X-API-Key: hr_…</code>). A browser
sends none, so what it asks for is answered with 401.</p>
<ul>
<li>On the machine of <code>headrace up</code> the first administrator's token is in the file
<code>.headrace/token</code>, and the command line finds it: <code>headrace runs list</code>.</li>
<li>Elsewhere set <code>HEADRACE_API_URL</code> and <code>HEADRACE_TOKEN</code>, or say it to any HTTP client:
<code>curl -H "Authorization: Bearer $HEADRACE_TOKEN" …/api/runs</code>.</li>
<li>Who has no token asks an administrator for one: <code>headrace tokens create NAME --role operator</code>.</li>
</ul>
<h2>Without a token</h2>
<ul>
<li><a href="/api/openapi.json">every route, as an OpenAPI document</a></li>
<li><a href="/api/readyz">whether it is ready</a>, <a href="/api/healthz">whether it lives</a>,
<a href="/api/metrics">its metrics</a></li>
</ul>
</body>
</html>
"""

router = APIRouter(include_in_schema=False)


async def page() -> Response:
    """Say what this is and how to sign in."""
    return Response(PAGE, media_type="text/html")


for _path in PATHS:
    router.add_api_route(_path, page, methods=["GET"], name="page")
