"""The errors that only a client of role auth can meet; those of its messages stand in the contract."""

from purveyor.kit.errors import Conflict, FieldError, InvalidInput, TooManyRequests, Unauthorized


class InvalidCredentials(Unauthorized):
    """The answer is the same whether or not there is an account with this address."""

    code, title = "invalid-credentials", "The e-mail address or the password is wrong"


class TooManyLogins(TooManyRequests):
    """Attempts are limited per account and per network address, and after many wrong passwords each one doubles
    the time to wait, up to 15 minutes. Retry-After says when to try again.
    """

    code, title = "too-many-logins", "Too many attempts to log in"


class RefreshTokenInvalid(Unauthorized):
    """The refresh token is unknown, expired or revoked, or it was exchanged before: then somebody else may hold
    it, and the whole session has ended. Log in again.
    """

    code, title = "refresh-token-invalid", "The refresh token does not work"


class WrongPassword(InvalidInput):
    """Who changes a password says the present one too, so that a device left unattended is not enough for it."""

    code, title = "wrong-password", "The current password is wrong"
    default_errors = (FieldError("/current_password", "is not the current password"),)


class ResetTokenInvalid(InvalidInput):
    """A token to set a new password comes by mail. It works once, for 30 minutes, and no longer when another one
    was used. Ask for a new one with POST /password/forgot.
    """

    code, title = "reset-token-invalid", "The token to reset the password does not work"
    default_errors = (FieldError("/token", "is unknown, expired or was used"),)


class LastAdmin(Conflict):
    """Somebody must be able to look after the shop: make somebody else an admin first."""

    code, title = "last-admin", "There is no other admin"
