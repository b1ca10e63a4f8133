"""The soak: hours of mixed load on one running proxy, to find what grows.

Four processes: the simulated hosts (``hosts``), the clients (``clients``), the proxy as a user starts it, and this one,
which samples the proxy from outside (``sample``), compares the end with the beginning (``verdict``) and draws it
(``chart``).

The proxy is measured in two states. *Loaded* is while the clients work. *Quiet* is after they were told to pause and
every answer has ended: what a request holds must be given back by then, to the last one.
"""
