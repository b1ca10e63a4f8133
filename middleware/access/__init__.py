"""`access`: which routes and models somebody may use."""
