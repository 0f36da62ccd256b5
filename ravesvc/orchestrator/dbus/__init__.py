"""The objects that the service has on the bus, and who may call them."""
