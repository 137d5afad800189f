"""The writer's statements, built once: building one anew costs more than running it."""

import sqlalchemy as sa

from backlane.operations.operation import State
from operations_service import schema
from operations_service.rows import CHANGING_COLUMNS

_operations, _leases = schema.operations.c, schema.leases.c
_request_ids = schema.request_ids.c

INSERT_OPERATION = schema.operations.insert()
INSERT_LABEL = schema.operation_labels.insert()
INSERT_REQUEST_ID = schema.request_ids.insert()
INSERT_EVENT = schema.events.insert()
INSERT_POINT = schema.metric_points.insert()
INSERT_LEASE = schema.leases.insert()

SELECT_OPERATION = sa.select(schema.operations).where(
    _operations.name == sa.bindparam("wanted_name"), _operations.is_deleted.is_(False)
)
SELECT_REQUEST = (
    sa.select(_operations.name, _request_ids.digests)
    .join(schema.operations, _operations.id == _request_ids.operation_id)
    .where(_request_ids.request_id == sa.bindparam("wanted_request_id"))
)
SELECT_OLDEST_QUEUED = (
    sa.select(_operations.name)
    .where(
        _operations.state == State.QUEUED.value,
        _operations.kind.in_(sa.bindparam("wanted_kinds", expanding=True)),
    )
    .order_by(_operations.id)
    .limit(1)
)

UPDATE_OPERATION = (
    schema.operations.update()
    .where(_operations.id == sa.bindparam("row_id"))
    .values({column: sa.bindparam(column) for column in CHANGING_COLUMNS})
)
UPDATE_BATCH_NUMBER = (
    schema.leases.update()
    .where(_leases.operation_id == sa.bindparam("row_id"))
    .values(batch_number=sa.bindparam("batch_number"))
)
DELETE_LEASE = schema.leases.delete().where(_leases.operation_id == sa.bindparam("row_id"))
UPDATE_REVISION = schema.registry.update().values(revision=sa.bindparam("revision"))
COUNT_PROBE = schema.registry.update().values(probe_count=schema.registry.c.probe_count + 1)
