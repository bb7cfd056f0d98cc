"""The driver, devices with their memory, and arrays on them."""
