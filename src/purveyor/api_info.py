"""What the API document says of the whole: what holds for every route, and the groups of routes in their order."""

from purveyor.kit.http.app import About

_DESCRIPTION = """\
Order management: the same guarantees as one process or as many services.

**Signing in.** `POST /register` opens an account and `POST /login` gives an access token: send it as \
`Authorization: Bearer <token>`. `POST /token/refresh` gives the next one.

**Errors** are problem details (RFC 9457): `type` names one of the [problem types](/problems) and does not \
change, `errors` points at each thing wrong with the input, `request_id` finds the request in the logs. What \
belongs to somebody else is answered as what does not exist.

**Values.** Bodies are JSON in UTF-8 of at most 64 KiB; unknown members are refused. Ids are UUIDs, times \
RFC 3339 in UTC, amounts JSON numbers with at most two decimals beside an ISO 4217 `currency`.

**Every answer** has `X-Request-ID`: the one that was sent, or a new one. Paths work with and without a slash at \
the end."""

ABOUT = About(
    title="Purveyor",
    description=_DESCRIPTION,
    tags={
        "accounts": "Open an account, see and change the profile.",
        "sessions": "Log in, renew and end a session, ask whose token it is.",
        "passwords": "Change a password, or set a new one with a token that comes by mail.",
        "addresses": "The postal addresses of an account.",
        "privacy": "Everything that is held on a person: take it away, or have it erased.",
        "products": "What can be ordered, at the prices that an order placed now would have.",
        "orders": "Place orders, follow them, cancel them; staff change and export them.",
        "staff": "For staff and admins: find users, and say what they may do.",
        "desk": "For staff: the mails about orders, and events that could not be handled.",
        "catalog": "The bundled catalogue in the API shape of fakestoreapi.in, and its pictures.",
        "development": "The mailbox that takes mails in development; production does not have it.",
        "operations": "For load balancers and operators: is the process alive, can it take work?",
    },
)
