"""Asks a server for its health: `python -m backlane.rpc.healthcheck ADDRESS [SERVICE]`.

For container health checks. Ends with 0 when the server answers SERVING, else with 1 and the cause
on stderr. Without a service name the health of the whole server is asked.
"""

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_S = 3.0
"""A server that needs longer to say that it is well is not."""


def check_health(address: str, service: str = "", timeout_s: float = TIMEOUT_S) -> str:
    """Returns the status by its name in grpc.health.v1, such as "SERVING".

    A server that cannot be reached, or does not know the service, gives the name of the gRPC
    status instead, such as "UNAVAILABLE" or "NOT_FOUND".
    """
    # A proxy from the environment would be asked for the way to 127.0.0.1.
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(address, options=options) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=timeout_s
            )
        except grpc.RpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def main(arguments: list[str]) -> int:
    """Runs the check for the command line's arguments and returns the exit code."""
    if len(arguments) not in (1, 2):
        sys.stderr.write("usage: python -m backlane.rpc.healthcheck ADDRESS [SERVICE]\n")
        return 2
    address, service = (*arguments, "")[:2]
    status = check_health(address, service)
    if status == "SERVING":
        return 0
    sys.stderr.write(f"{' '.join(arguments)}: {status}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
