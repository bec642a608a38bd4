"""No route without a guard: every route asks for a caller and names its roles, or is named with the reason why not."""

from typing import NamedTuple

from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from headrace_api.admission import MAY, OWN_TOKEN, PUBLIC, READING
from headrace_api.asking import asking
from headrace_api.routes.later import PREFIX as NOT_BUILT


class Door(NamedTuple):
    """A way into the application: its method, its path and its route's name, and whether the route asks for a caller."""

    method: str
    path: str
    name: str
    asks: bool


def doors(app: FastAPI) -> list[Door]:
    """Give every way into an application, also those that its document leaves out."""
    found: list[Door] = []
    for context in iter_route_contexts(app.routes):
        route = getattr(context, "original_route", context)
        asks = isinstance(route, APIRoute) and any(each.call is asking for each in route.dependant.dependencies)
        methods = sorted(set(getattr(context, "methods", None) or {"ANY"}) - {"HEAD"})
        found.extend(Door(method, str(context.path), str(context.name), asks) for method in methods)
    return found


def allowed(app: FastAPI, path: str) -> list[str]:
    """Give the methods that a path takes, of all its routes; whoever may be asked with GET may be with HEAD."""
    routes = [each for each in iter_route_contexts(app.routes) if each.path_regex.match(path)]
    methods = {method for each in routes for method in each.methods or ()}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)


def check(app: FastAPI) -> None:
    """Refuse to serve an application with a route that nobody guards; raises LookupError naming each with its remedy."""
    problems = [f"{door.method} {door.path} ({door.name}): {told}" for door in doors(app) if (told := _problem(door))]
    names = {door.name for door in doors(app)}
    problems.extend(
        f"there is no route {name!r}, which has a row in admission.MAY" for name in MAY if name not in names
    )
    problems.extend(
        f"there is no route {name!r}, which is in admission.OWN_TOKEN" for name in OWN_TOKEN if name not in names
    )
    if problems:
        raise LookupError("; ".join(problems))


def _problem(door: Door) -> str | None:
    if door.path in PUBLIC or door.name in OWN_TOKEN or door.name.startswith(NOT_BUILT):
        return None
    if not door.asks:
        return "takes no `Asked`: ask for a caller, or name it in admission.PUBLIC or OWN_TOKEN with the reason"
    if door.method not in READING and door.name not in MAY:
        return "changes something and has no row in admission.MAY: name the roles that it is for"
    return None
