"""Title, introduction and tags of the API document."""

from purveyor.kit.http.app import About
from purveyor.registry import ROLES

_DESCRIPTION = """\
Order management: the same guarantees as one process or as many services.

**Authentication.** `POST /register` creates an account, and `POST /login` returns an access token. Send it as \
`Authorization: Bearer <token>`. `POST /token/refresh` returns a new one.

**Errors** are problem details (RFC 9457). `type` is one of the [problem types](/problems) and never changes, \
`errors` points at each invalid input, and `request_id` identifies the request in the logs. Resources of other \
users return 404.

**Values.** Bodies are JSON in UTF-8 of at most 64 KiB. Unknown members and query parameters are rejected. IDs \
are UUIDs, and times are RFC 3339 in UTC. Amounts are JSON numbers with the decimals of their ISO 4217 \
`currency`. Beside each stands the same amount as an integer in minor units, such as `total_minor`.

**Samples.** [Every operation](/docs/samples) in curl, Python and JavaScript, and as a \
[collection of requests](/docs/purveyor.http).

**Every response** has `X-Request-ID`, from the request or newly generated. Paths work with and without a \
trailing slash."""

ABOUT = About(
    title="Purveyor",
    description=_DESCRIPTION,
    tags={
        **{tag: text for role in ROLES.values() for tag, text in role.tags.items()},
        "operations": "Health checks for load balancers and operators.",
    },
)
