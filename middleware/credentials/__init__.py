"""The ways to say who is calling, one file each; ``middleware/auth.py`` tries them in order.

Each method turns what a request presents into a `Caller`, or raises `Refused`. None of them reads the body, and none
falls through: a credential that was presented and is bad ends the request.
"""
