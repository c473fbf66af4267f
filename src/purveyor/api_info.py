"""What the API document says of the whole: what holds for every route, and the groups of routes in their order."""

from purveyor.kit.http.app import About

_DESCRIPTION = """\
Order management: the same guarantees as one process or as many services.

**Authentication.** `POST /register` creates an account, and `POST /login` returns an access token. Send it as \
`Authorization: Bearer <token>`. `POST /token/refresh` returns a new one.

**Errors** are problem details (RFC 9457). `type` is one of the [problem types](/problems) and never changes, \
`errors` points at each invalid input, and `request_id` identifies the request in the logs. Resources of other \
users return 404.

**Values.** Bodies are JSON in UTF-8 of at most 64 KiB. Unknown members are rejected. IDs are UUIDs, times are \
RFC 3339 in UTC, and amounts are JSON numbers with at most two decimals next to an ISO 4217 `currency`.

**Every response** has `X-Request-ID`, from the request or newly generated. Paths work with and without a \
trailing slash."""

ABOUT = About(
    title="Purveyor",
    description=_DESCRIPTION,
    tags={
        "accounts": "Create an account, read and update the profile.",
        "sessions": "Sign in, refresh tokens, sign out, verify a token.",
        "passwords": "Change a password, or reset it with a token sent by email.",
        "addresses": "The postal addresses of an account.",
        "privacy": "Export or erase the personal data of a user.",
        "products": "Products that can be ordered, with current prices.",
        "orders": "Place, track and cancel orders; staff update and export them.",
        "staff": "For staff and admins: find users and change their roles.",
        "desk": "For staff: emails about orders, and events that could not be handled.",
        "catalog": "The bundled catalog with the API of fakestoreapi.in, and its pictures.",
        "development": "The development mailbox; not available in production.",
        "operations": "Health checks for load balancers and operators.",
    },
)
