"""Videos of providers: what a link leads to, searches, pictures. The one part that reaches a provider.

The service has it in a helper of its own (rave-media.service), the only process that holds a provider's key.
Single-process mode has the same `library.Library` in its process.
"""
