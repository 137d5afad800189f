// Starts a backtest and follows its watch to the end, with nothing of Backlane but protos/.
//
//   node run_backtest.js PROTOS BACKTESTS_ADDRESS OPERATIONS_ADDRESS SPEC_JSON
//
// Writes one JSON object a line to stdout; the last one says how the run ended.
"use strict";

const crypto = require("node:crypto");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const DEADLINE_MS = 10_000;
const [protos, backtestsAddress, operationsAddress, spec] = process.argv.slice(2);

const definition = protoLoader.loadSync(
  [
    "backlane/api/backtest/v1/backtest_service.proto",
    "backlane/api/operations/v1/operations_service.proto",
  ],
  // google/protobuf/* come with proto-loader itself.
  { includeDirs: [protos], keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true },
);
const api = grpc.loadPackageDefinition(definition).backlane.api;
const credentials = grpc.credentials.createInsecure();
const backtests = new api.backtest.v1.BacktestService(backtestsAddress, credentials);
const operations = new api.operations.v1.OperationsService(operationsAddress, credentials);

function say(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

function call(client, method, request) {
  return new Promise((resolve, reject) => {
    const options = { deadline: new Date(Date.now() + DEADLINE_MS) };
    client[method](request, options, (error, response) => (error ? reject(error) : resolve(response)));
  });
}

// Each message begins where the one before ended: a client can see for itself that none is missing.
function follow(name) {
  return new Promise((resolve, reject) => {
    const seen = { messages: 0, progress: 0, sequences: [], states: [], gaps: 0 };
    let through = null;
    const watch = operations.WatchOperations({ names: [name], oldest: {} });
    watch.on("data", (message) => {
      seen.messages += 1;
      if (through !== null && message.from_revision !== through) seen.gaps += 1;
      through = message.through_revision;
      const progress = message.progress[name];
      if (progress) {
        seen.progress += 1;
        say({ event: "progress", phase: progress.phase, completed: progress.completed_units });
      }
      for (const event of message.events) {
        seen.sequences.push(event.sequence);
        if (event.kind === "state_changed") {
          seen.states.push(event.state_changed.to_state);
          say({ event: "state", state: event.state_changed.to_state });
        }
      }
    });
    watch.on("end", () => resolve(seen));
    watch.on("error", reject);
  });
}

async function main() {
  const started = await call(backtests, "RunBacktest", {
    request_id: crypto.randomUUID(),
    spec: JSON.parse(spec),
  });
  const name = started.operation.name;
  say({ event: "started", operation: name });
  const seen = await follow(name);
  const { result } = await call(backtests, "GetBacktestResult", { operation: name });
  say({
    event: "ended",
    operation: name,
    result_digest: result.result_digest,
    metrics: result.metrics.length,
    ...seen,
  });
}

main().catch((error) => {
  say({ event: "error", code: error.code, message: error.details || String(error) });
  process.exitCode = 1;
});
