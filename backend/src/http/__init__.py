"""HTTP, from the connection to the answer, whatever the service serves.

It promises that a request is its sender's (RFC 9112), that a peer takes no more than its share, and
that every error is a problem (RFC 9457). It follows one rule: nothing here knows the application,
the database or who is asking.
"""
