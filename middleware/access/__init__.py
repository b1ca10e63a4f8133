"""`access`: which routes and models a caller may use."""
