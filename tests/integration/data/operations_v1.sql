BEGIN TRANSACTION;
CREATE TABLE events (
	revision INTEGER NOT NULL, 
	operation_id INTEGER NOT NULL, 
	sequence BIGINT NOT NULL, 
	attempt INTEGER NOT NULL, 
	time_ns BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	from_state TEXT, 
	body JSON NOT NULL, 
	payload BLOB, 
	PRIMARY KEY (revision), 
	UNIQUE (operation_id, sequence), 
	FOREIGN KEY(operation_id) REFERENCES operations (id) ON DELETE CASCADE
);
INSERT INTO "events" VALUES(1,1,1,0,1700000000000000000,'QUEUED',NULL,'{"type": "state", "from": null, "to": "QUEUED", "reason": "CREATED", "error": null, "result_type_url": null}',NULL);
INSERT INTO "events" VALUES(2,1,2,1,1700000000000000000,'RUNNING','QUEUED','{"type": "state", "from": "QUEUED", "to": "RUNNING", "reason": "LEASE_GRANTED", "error": null, "result_type_url": null}',NULL);
INSERT INTO "events" VALUES(3,1,3,1,1700000001000000000,'RUNNING',NULL,'{"type": "metrics", "first_index": 1, "count": 7}',NULL);
INSERT INTO "events" VALUES(4,1,4,1,1700000001000000000,'RUNNING',NULL,'{"type": "trades"}',X'020000000801020000000802');
INSERT INTO "events" VALUES(5,1,5,1,1700000001000000000,'RUNNING',NULL,'{"type": "note", "text": "a note"}',NULL);
INSERT INTO "events" VALUES(6,1,6,1,1700000001000000000,'RUNNING',NULL,'{"type": "metrics", "first_index": 8, "count": 1}',NULL);
INSERT INTO "events" VALUES(7,1,7,1,1700000001000000000,'SUCCEEDED','RUNNING','{"type": "state", "from": "RUNNING", "to": "SUCCEEDED", "reason": "COMPLETED", "error": null, "result_type_url": "type.googleapis.com/test.Result"}',X'0801');
INSERT INTO "events" VALUES(8,2,1,0,1700000001000000000,'QUEUED',NULL,'{"type": "state", "from": null, "to": "QUEUED", "reason": "CREATED", "error": null, "result_type_url": null}',NULL);
INSERT INTO "events" VALUES(9,2,2,1,1700000001000000000,'RUNNING','QUEUED','{"type": "state", "from": "QUEUED", "to": "RUNNING", "reason": "LEASE_GRANTED", "error": null, "result_type_url": null}',NULL);
INSERT INTO "events" VALUES(10,2,3,1,1700000016000000000,'QUEUED','RUNNING','{"type": "state", "from": "RUNNING", "to": "QUEUED", "reason": "LEASE_EXPIRED", "error": null, "result_type_url": null}',NULL);
INSERT INTO "events" VALUES(11,2,4,2,1700000016000000000,'RUNNING','QUEUED','{"type": "state", "from": "QUEUED", "to": "RUNNING", "reason": "LEASE_GRANTED", "error": null, "result_type_url": null}',NULL);
INSERT INTO "events" VALUES(12,2,5,2,1700000016000000000,'RUNNING',NULL,'{"type": "metrics", "first_index": 1, "count": 1}',NULL);
INSERT INTO "events" VALUES(13,2,6,2,1700000016000000000,'RUNNING',NULL,'{"type": "note", "text": "running"}',NULL);
INSERT INTO "events" VALUES(14,3,1,0,1700000016000000000,'QUEUED',NULL,'{"type": "state", "from": null, "to": "QUEUED", "reason": "CREATED", "error": null, "result_type_url": null}',NULL);
INSERT INTO "events" VALUES(15,4,1,0,1700000016000000000,'QUEUED',NULL,'{"type": "state", "from": null, "to": "QUEUED", "reason": "CREATED", "error": null, "result_type_url": null}',NULL);
INSERT INTO "events" VALUES(16,4,2,0,1700000016000000000,'CANCELLED','QUEUED','{"type": "state", "from": "QUEUED", "to": "CANCELLED", "reason": "CANCEL_REQUESTED", "error": {"reason": "CANCEL_REQUESTED", "message": "Stopped because cancel was asked: a mistake", "metadata": {"cancel_reason": "a mistake"}, "code": 0}, "result_type_url": null}',NULL);
INSERT INTO "events" VALUES(17,5,1,0,1700000016000000000,'QUEUED',NULL,'{"type": "state", "from": null, "to": "QUEUED", "reason": "CREATED", "error": null, "result_type_url": null}',NULL);
INSERT INTO "events" VALUES(18,5,2,0,1700000016000000000,'CANCELLED','QUEUED','{"type": "state", "from": "QUEUED", "to": "CANCELLED", "reason": "CANCEL_REQUESTED", "error": {"reason": "CANCEL_REQUESTED", "message": "Stopped because cancel was asked.", "metadata": {}, "code": 0}, "result_type_url": null}',NULL);
INSERT INTO "events" VALUES(19,5,3,0,1700000016000000000,'CANCELLED',NULL,'{"type": "deleted"}',NULL);
INSERT INTO "events" VALUES(20,3,2,1,1700000016000000000,'RUNNING','QUEUED','{"type": "state", "from": "QUEUED", "to": "RUNNING", "reason": "LEASE_GRANTED", "error": null, "result_type_url": null}',NULL);
INSERT INTO "events" VALUES(21,3,3,1,1700000016000000000,'FAILED','RUNNING','{"type": "state", "from": "RUNNING", "to": "FAILED", "reason": "OUT_OF_MEMORY", "error": {"reason": "OUT_OF_MEMORY", "message": "too much", "metadata": {"limit": "1"}, "code": 8}, "result_type_url": null}',NULL);
INSERT INTO "events" VALUES(22,6,1,0,1700000016000000000,'QUEUED',NULL,'{"type": "state", "from": null, "to": "QUEUED", "reason": "CREATED", "error": null, "result_type_url": null}',NULL);
CREATE TABLE leases (
	operation_id INTEGER NOT NULL, 
	epoch BIGINT NOT NULL, 
	worker_id TEXT NOT NULL, 
	request_id TEXT NOT NULL, 
	batch_number BIGINT NOT NULL, 
	PRIMARY KEY (operation_id), 
	FOREIGN KEY(operation_id) REFERENCES operations (id) ON DELETE CASCADE
);
INSERT INTO "leases" VALUES(2,2,'worker-2','00000000-0000-4000-9000-000000000022',1);
CREATE TABLE metric_points (
	operation_id INTEGER NOT NULL, 
	"index" BIGINT NOT NULL, 
	series TEXT NOT NULL, 
	step BIGINT NOT NULL, 
	time_ns BIGINT, 
	value BLOB NOT NULL, 
	PRIMARY KEY (operation_id, "index"), 
	FOREIGN KEY(operation_id) REFERENCES operations (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "metric_points" VALUES(1,1,'equity',0,0,X'0000000000000000');
INSERT INTO "metric_points" VALUES(1,2,'equity',1,10,X'555555555555D53F');
INSERT INTO "metric_points" VALUES(1,3,'equity',2,20,X'555555555555E53F');
INSERT INTO "metric_points" VALUES(1,4,'equity',3,30,X'000000000000F03F');
INSERT INTO "metric_points" VALUES(1,5,'equity',4,40,X'555555555555F53F');
INSERT INTO "metric_points" VALUES(1,6,'loss',0,NULL,X'000000000000F87F');
INSERT INTO "metric_points" VALUES(1,7,'loss',1,NULL,X'0000000000000080');
INSERT INTO "metric_points" VALUES(1,8,'equity',5,NULL,X'59F3F8C21F6EA501');
INSERT INTO "metric_points" VALUES(2,1,'equity',0,NULL,X'0000000000001C40');
CREATE TABLE operation_labels (
	"key" TEXT NOT NULL, 
	value TEXT NOT NULL, 
	operation_id INTEGER NOT NULL, 
	PRIMARY KEY ("key", value, operation_id), 
	FOREIGN KEY(operation_id) REFERENCES operations (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "operation_labels" VALUES('n','1',1);
INSERT INTO "operation_labels" VALUES('sweep','a',1);
INSERT INTO "operation_labels" VALUES('sweep','a',2);
INSERT INTO "operation_labels" VALUES('sweep','b',3);
CREATE TABLE operations (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	name TEXT NOT NULL, 
	uid TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	state TEXT NOT NULL, 
	is_deleted BOOLEAN NOT NULL, 
	spec_type_url TEXT NOT NULL, 
	spec_value BLOB NOT NULL, 
	labels JSON NOT NULL, 
	max_attempts INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	epoch BIGINT NOT NULL, 
	event_sequence BIGINT NOT NULL, 
	metric_index BIGINT NOT NULL, 
	counts JSON NOT NULL, 
	revision BIGINT NOT NULL, 
	create_time_ns BIGINT NOT NULL, 
	start_time_ns BIGINT, 
	end_time_ns BIGINT, 
	cancel_reason TEXT NOT NULL, 
	progress JSON, 
	result_type_url TEXT, 
	result_value BLOB, 
	error JSON, 
	UNIQUE (name), 
	UNIQUE (uid)
);
INSERT INTO "operations" VALUES(1,'operations/0000000000000001','00000000-0000-0000-0000-000000000002','backtest.run','SUCCEEDED',0,'type.googleapis.com/test.Spec',X'0A0178','{"sweep": "a", "n": "1"}',3,1,1,7,8,'{"trades": 2, "notes": 1, "dropped_points": 0, "dropped_trades": 0, "dropped_notes": 0}',7,1700000000000000000,1700000000000000000,1700000001000000000,'','{"version": 3, "completed_units": 100, "total_units": 1000, "unit": "bar", "phase": "", "report_time_ns": null, "simulated_time_ns": null, "equity": "inf", "trade_count": 0}','type.googleapis.com/test.Result',X'0801',NULL);
INSERT INTO "operations" VALUES(2,'operations/0000000000000002','00000000-0000-0000-0000-000000000003','backtest.run','RUNNING',0,'type.googleapis.com/test.Spec',X'0A0178','{"sweep": "a"}',2,2,2,6,1,'{"trades": 0, "notes": 1, "dropped_points": 0, "dropped_trades": 0, "dropped_notes": 0}',13,1700000001000000000,1700000001000000000,NULL,'','{"version": 1, "completed_units": 5, "total_units": 10, "unit": "bar", "phase": "", "report_time_ns": null, "simulated_time_ns": null, "equity": 0.0, "trade_count": 0}',NULL,NULL,NULL);
INSERT INTO "operations" VALUES(3,'operations/0000000000000003','00000000-0000-0000-0000-000000000004','backtest.run','FAILED',0,'type.googleapis.com/test.Spec',X'0A0178','{"sweep": "b"}',1,1,1,3,0,'{"trades": 0, "notes": 0, "dropped_points": 0, "dropped_trades": 0, "dropped_notes": 0}',21,1700000016000000000,1700000016000000000,1700000016000000000,'',NULL,NULL,NULL,'{"reason": "OUT_OF_MEMORY", "message": "too much", "metadata": {"limit": "1"}, "code": 8}');
INSERT INTO "operations" VALUES(4,'operations/0000000000000004','00000000-0000-0000-0000-000000000005','other.run','CANCELLED',0,'type.googleapis.com/test.Spec',X'0A0178','{}',1,0,0,2,0,'{"trades": 0, "notes": 0, "dropped_points": 0, "dropped_trades": 0, "dropped_notes": 0}',16,1700000016000000000,NULL,1700000016000000000,'a mistake',NULL,NULL,NULL,'{"reason": "CANCEL_REQUESTED", "message": "Stopped because cancel was asked: a mistake", "metadata": {"cancel_reason": "a mistake"}, "code": 0}');
INSERT INTO "operations" VALUES(5,'operations/0000000000000005','00000000-0000-0000-0000-000000000006','backtest.run','CANCELLED',1,'type.googleapis.com/test.Spec',X'','{}',1,0,0,3,0,'{"trades": 0, "notes": 0, "dropped_points": 0, "dropped_trades": 0, "dropped_notes": 0}',19,1700000016000000000,NULL,1700000016000000000,'',NULL,NULL,NULL,'{"reason": "CANCEL_REQUESTED", "message": "Stopped because cancel was asked.", "metadata": {}, "code": 0}');
INSERT INTO "operations" VALUES(6,'operations/0000000000000006','00000000-0000-0000-0000-000000000007','backtest.run','QUEUED',0,'type.googleapis.com/test.Spec',X'0A0178','{}',1,0,0,1,0,'{"trades": 0, "notes": 0, "dropped_points": 0, "dropped_trades": 0, "dropped_notes": 0}',22,1700000016000000000,NULL,NULL,'',NULL,NULL,NULL,NULL);
CREATE TABLE registry (
	id INTEGER NOT NULL, 
	schema_version INTEGER NOT NULL, 
	registry_uid TEXT NOT NULL, 
	revision BIGINT NOT NULL, 
	oldest_revision BIGINT NOT NULL, 
	probe_count BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "registry" VALUES(1,1,'00000000-0000-0000-0000-000000000001',22,0,0);
CREATE TABLE request_ids (
	request_id TEXT NOT NULL, 
	operation_id INTEGER NOT NULL, 
	digests JSON NOT NULL, 
	PRIMARY KEY (request_id), 
	FOREIGN KEY(operation_id) REFERENCES operations (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "request_ids" VALUES('00000000-0000-4000-8000-000000000001',1,'{"kind": "4132052f58e9d05565dd69bb4de6e6a3e5a9f25ebd04fd0695cfe4d784261f5d", "spec": "0b2b28c08480a52631de7fb1883eaf9f8f6d90f410054fdddf4e8f5532c8d96a", "labels": "ee7d76c50ef97e42a7e21a61152958bc42810feefb17967db0ea488a710e9b99", "max_attempts": "314c3c4bdd2886fb8dcb5d9e25db30fb6d1d77e873e97308f4faf51a76b7cd9b"}');
INSERT INTO "request_ids" VALUES('00000000-0000-4000-8000-000000000002',2,'{"kind": "4132052f58e9d05565dd69bb4de6e6a3e5a9f25ebd04fd0695cfe4d784261f5d", "spec": "0b2b28c08480a52631de7fb1883eaf9f8f6d90f410054fdddf4e8f5532c8d96a", "labels": "574a4eb0ae04ac643613d70b624b3c911353e8ec38f644139e7422781a0f591b", "max_attempts": "25af8dcacaa1d2a02c5b816b1b9b11170ac46366770f7173f5c61311653b8082"}');
INSERT INTO "request_ids" VALUES('00000000-0000-4000-8000-000000000003',3,'{"kind": "4132052f58e9d05565dd69bb4de6e6a3e5a9f25ebd04fd0695cfe4d784261f5d", "spec": "0b2b28c08480a52631de7fb1883eaf9f8f6d90f410054fdddf4e8f5532c8d96a", "labels": "e7a8287a5baf1e254b81a4808e47fae02c6cc54d5e276ce374980bb79f96cec9", "max_attempts": "031dc88d0ec0c52d518bbc28b322da9334c69a177be1cfa7fd4d819024452f23"}');
INSERT INTO "request_ids" VALUES('00000000-0000-4000-8000-000000000004',4,'{"kind": "0a2e378e77474eb66123bdaf12e3dde13d019a6a5b0c7337ccd88969874bf874", "spec": "0b2b28c08480a52631de7fb1883eaf9f8f6d90f410054fdddf4e8f5532c8d96a", "labels": "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc", "max_attempts": "031dc88d0ec0c52d518bbc28b322da9334c69a177be1cfa7fd4d819024452f23"}');
INSERT INTO "request_ids" VALUES('00000000-0000-4000-8000-000000000005',5,'{"kind": "4132052f58e9d05565dd69bb4de6e6a3e5a9f25ebd04fd0695cfe4d784261f5d", "spec": "0b2b28c08480a52631de7fb1883eaf9f8f6d90f410054fdddf4e8f5532c8d96a", "labels": "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc", "max_attempts": "031dc88d0ec0c52d518bbc28b322da9334c69a177be1cfa7fd4d819024452f23"}');
INSERT INTO "request_ids" VALUES('00000000-0000-4000-8000-000000000006',6,'{"kind": "4132052f58e9d05565dd69bb4de6e6a3e5a9f25ebd04fd0695cfe4d784261f5d", "spec": "0b2b28c08480a52631de7fb1883eaf9f8f6d90f410054fdddf4e8f5532c8d96a", "labels": "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc", "max_attempts": "031dc88d0ec0c52d518bbc28b322da9334c69a177be1cfa7fd4d819024452f23"}');
CREATE INDEX operations_by_state ON operations (state, kind, id);
CREATE INDEX operations_by_kind ON operations (kind, id);
CREATE INDEX events_by_operation ON events (operation_id, revision);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('operations',6);
COMMIT;
