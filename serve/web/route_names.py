"""Names of routes for the log and the metrics: the declared path, which has no text of the request."""
from __future__ import annotations

from collections.abc import Iterable

from starlette.routing import BaseRoute, Mount, Route, compile_path
from starlette.types import Scope

OTHER = "other"  # the name for paths without a route


class RouteNames:
    """Finds the route of a path, even if the request was refused before routing.

    paths: the declared paths.
    """

    def __init__(self, routes: Iterable[BaseRoute]):
        routes = list(routes)
        paths = {route.path: isinstance(route, Mount) for route in routes if hasattr(route, "path")}
        self._routes = [(compile_path(f"{path}/{{rest:path}}" if mounted else path)[0], path)
                        for path, mounted in paths.items()]
        self.paths = list(paths)
        self._methods: dict[str, set[str]] = {}
        for route in routes:
            if isinstance(route, Route) and route.methods:
                self._methods.setdefault(route.path, set()).update(route.methods)

    def of(self, path: str) -> str:
        return next((name for pattern, name in self._routes if pattern.match(path)), OTHER)

    def methods(self, path: str) -> list[str]:
        """Return the methods of all routes at a path, in the order of the alphabet."""
        return sorted(self._methods.get(self.of(path), ()))


def route_name(scope: Scope) -> str:
    """Return the name of a request's route. The application has `RouteNames` as `state.route_names`."""
    route = scope.get("route")  # FastAPI sets it only for its own routes
    if route is not None:
        return str(route.path)
    return scope["app"].state.route_names.of(scope["path"]) if "app" in scope else OTHER
