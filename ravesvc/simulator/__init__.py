"""A simulated Rave on the loopback network, for trying, testing and benchmarking without an account.

It speaks HTTPS and WSS with a certificate of its own authority, checks every call as a server would, and records
each mistake of the client. People and tests control it by a Unix socket (`client.Control`, `rave-simulator`).
"""
