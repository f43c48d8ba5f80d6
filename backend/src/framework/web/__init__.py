"""HTTP, from the connection to the answer, whatever the service serves.

Guarantees: a request is read as its sender meant it (RFC 9112); no peer exceeds its limits; every
error is a problem (RFC 9457). Nothing here knows the application, the database or the user.
"""
