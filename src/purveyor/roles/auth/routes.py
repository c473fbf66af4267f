"""The HTTP routes of role auth, together; each subject has a module of its own."""

from typing import Any

from purveyor.kit.web import BEARER, signed_in
from purveyor.roles.auth.routes_accounts import privacy_routes, profile_routes, register_route
from purveyor.roles.auth.routes_addresses import address_routes
from purveyor.roles.auth.routes_sessions import password_routes, session_routes
from purveyor.roles.auth.routes_staff import staff_routes
from purveyor.roles.auth.service import Auth
from purveyor.roles.auth.service_passwords import PasswordChanges
from purveyor.roles.auth.service_privacy import Privacy
from purveyor.roles.auth.service_sessions import Sessions


def auth_routes(auth: Auth, sessions: Sessions, passwords: PasswordChanges, privacy: Privacy) -> list[Any]:
    """Every route of the role."""
    protected: dict[str, Any] = {"before_request": signed_in(sessions.principal), "security": BEARER}
    return [
        register_route(auth),
        *session_routes(sessions, protected),
        *password_routes(passwords, protected),
        *profile_routes(auth, protected),
        *privacy_routes(privacy, protected),
        *address_routes(auth, protected),
        *staff_routes(auth, protected),
    ]
