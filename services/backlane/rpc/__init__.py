"""Server plumbing: settings, the error table, interceptors, health, drain, channels.

Reads settings from the environment, and the descriptors of the services it is handed.
Produces running gRPC servers, and channels to them, that all behave alike.
Never knows what a service does: no domain stage and no message of backlane.api is imported here.
"""
