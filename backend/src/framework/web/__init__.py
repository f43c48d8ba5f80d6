"""HTTP between the server and an endpoint, whatever the application serves.

Guarantees: a request is read as its sender meant it (RFC 9110), and every error is a problem
(RFC 9457).
"""
