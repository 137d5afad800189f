"""The command line.

Reads arguments, request files and the answers of the services (`client`), or runs the engine here.
Produces lines, tables and progress for people; JSON for programs; exit codes (exit_codes.py).
Never touches gRPC or protobuf itself, and loads what computes only where it computes.
"""
