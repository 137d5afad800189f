"""What the tests of all stages share; shipped, so that a model's own tests can use it too.

Reads nothing of the caller's machine but what a test hands it.
Produces servers, processes and data that end with the test.
Never is imported by a stage or a service.
"""
