"""Puts model_service together: the one place that knows all of its parts."""

from backlane.api.models.v1 import models_service_pb2 as pb
from backlane.api.models.v1.models_service_pb2_grpc import add_ModelsServiceServicer_to_server
from backlane.rpc.server import RpcServer, ServedService
from model_service.compute import Compute
from model_service.prediction import PredictionLimits, Predictions
from model_service.repository import ModelRepository
from model_service.servicer import ModelsServicer
from model_service.settings import ModelServiceSettings

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["ModelsService"].full_name


def build(settings: ModelServiceSettings) -> RpcServer:
    """Returns the server of model_service, ready to start."""
    repository = ModelRepository(settings.models_dir, cache_bytes_max=settings.cache_bytes_max)
    compute = Compute(threads=settings.threads, cpu_affinity=settings.cpu_affinity)
    limits = PredictionLimits(
        send_bytes_max=settings.send_bytes_max,
        stream_chunk_rows_max=settings.stream_chunk_rows_max,
        stream_chunk_bytes_max=settings.stream_chunk_bytes_max,
        stream_idle_timeout_s=settings.stream_idle_timeout_s,
    )
    servicer = ModelsServicer(repository, Predictions(repository, compute, limits))
    return RpcServer(
        settings,
        name="model_service",
        services=[
            ServedService(
                SERVICE_NAME, lambda server: add_ModelsServiceServicer_to_server(servicer, server)
            )
        ],
        probe=repository.probe,
        background=[repository, compute],
    )
