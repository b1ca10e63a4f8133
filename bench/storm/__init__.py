"""The storm: three hosts that are killed, frozen, stalled and cut, and the share of requests that succeed all the same.

Processes: each simulated host (``host``), the clients (``clients``), the proxy as a user starts it or nginx
(``servers``), and this one, which strikes the hosts (``strikes``) as the seed says (``schedule``) and judges what the
clients saw (``verdict``).

A request counts where one host was well all the while it took. It fails where it has no answer, or an error. An answer
that had begun and broke off is no failure of whoever passed it on, if the client can see it; it is counted apart. An
answer that looks whole and is not is a *false success*, and must not be.
"""
