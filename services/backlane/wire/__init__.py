"""Between our records and protobuf messages, both ways.

Reads: messages from whoever sends them, and the library's records.
Produces: records that are checked, and messages.
Never: answers calls, opens channels, or lets an unchecked field through.
"""
