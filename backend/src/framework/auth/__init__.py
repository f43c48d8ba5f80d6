"""Who sends a request: bearer tokens (RFC 6750, RFC 8725) and the keys that verify them.

Guarantees: only tokens that the issuer signed are trusted; a slow, wrong or absent key server does
not affect users whose key is known. The package says who is calling; the application decides what
that user may do.
"""
