"""Whose request it is: bearer tokens (RFC 6750, RFC 8725) and the keys they are checked with.

It promises that no token is trusted that the issuer did not sign, and that a key server that is
slow, wrong or away stops nobody whose key is known. It follows one rule: it says who is calling,
and the application says what that user may do.
"""
