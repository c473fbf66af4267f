"""All HTTP routes of role auth."""

from typing import Any

from purveyor.roles.auth.email_addresses import EmailAddresses
from purveyor.roles.auth.password_changes import PasswordChanges
from purveyor.roles.auth.privacy import Privacy
from purveyor.roles.auth.routes_accounts import (
    address_routes,
    email_routes,
    privacy_routes,
    profile_routes,
    register_route,
    staff_routes,
)
from purveyor.roles.auth.routes_sessions import password_routes, session_routes
from purveyor.roles.auth.service import Auth
from purveyor.roles.auth.sessions import Sessions


def auth_routes(
    auth: Auth, sessions: Sessions, passwords: PasswordChanges, emails: EmailAddresses, privacy: Privacy
) -> list[Any]:
    """Every route of the role."""
    verify = sessions.principal
    return [
        register_route(auth),
        *session_routes(sessions),
        *password_routes(passwords, verify),
        *email_routes(emails, verify),
        *profile_routes(auth, verify),
        *privacy_routes(privacy, verify),
        *address_routes(auth, verify),
        *staff_routes(auth, verify),
    ]
