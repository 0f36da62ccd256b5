"""A Rave that runs on loopback: for trying, testing and benchmarking without an account.

It speaks HTTPS and WSS with a certificate of its own authority, checks every call as a server would, and writes
down each mistake of the client. People and tests steer it through a Unix socket (`client.Control`, `rave-simulator`).
"""
