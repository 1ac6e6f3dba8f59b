// A caller written for Node, for tests/process/test_peers.py. It prints one JSON object: a charge,
// a denial with its details, and a health watch.
//
//   node peer.js ADDRESS FOLDER...   the folders are searched for .proto files

import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import protobuf from "protobufjs";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

const [address, ...folders] = process.argv.slice(2);
const contract = grpc.loadPackageDefinition(
  loadSync("entitlements/v1/entitlement_service.proto", {
    includeDirs: folders, keepCase: true, longs: String, enums: String,
  }),
);
const credentials = grpc.credentials.createInsecure();
const client = new contract.entitlements.v1.EntitlementService(address, credentials);
const call = (method, request) => promisify(client[method].bind(client))(request);

await call("TopUp", { user_id: "node", amount: 3 });
const consume = { user_id: "node", feature: "full_distribution" };
const charge = await call("Consume", consume);
const denial = await call("Consume", consume).then(
  () => { throw new Error("The second charge was not denied."); },
  (error) => ({ code: grpc.status[error.code], ...errorInfo(error) }),
);
const health = await firstWord();
client.close();
console.log(JSON.stringify({ charge, denial, health }));

// The google.rpc.ErrorInfo in the details of an error.
function errorInfo(error) {
  const root = new protobuf.Root();
  root.resolvePath = (_, name) =>
    folders.map((folder) => join(folder, name)).find((path) => existsSync(path)) ?? name;
  root.loadSync(["google/rpc/status.proto", "google/rpc/error_details.proto"]);
  const [data] = error.metadata.get("grpc-status-details-bin");
  const { details } = root.lookupType("google.rpc.Status").decode(data);
  const info = details.find(({ type_url }) => type_url.endsWith("/google.rpc.ErrorInfo"));
  const { reason, domain, metadata } = root.lookupType("google.rpc.ErrorInfo").decode(info.value);
  return { reason, domain, metadata };
}

// What Health/Watch says first. The two messages are small enough to be written out.
function firstWord() {
  const { root } = protobuf.parse(`
    syntax = "proto3"; package grpc.health.v1;
    message HealthCheckRequest { string service = 1; }
    message HealthCheckResponse {
      enum ServingStatus { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3; }
      ServingStatus status = 1;
    }`, { keepCase: true });
  const [request, response] = ["HealthCheckRequest", "HealthCheckResponse"].map((name) =>
    root.lookupType(`grpc.health.v1.${name}`));
  const watch = client.makeServerStreamRequest(
    "/grpc.health.v1.Health/Watch",
    (value) => Buffer.from(request.encode(value).finish()),
    (data) => response.toObject(response.decode(data), { enums: String }),
    { service: "entitlements.v1.EntitlementService" },
  );
  return new Promise((resolve, reject) => {
    watch.on("data", ({ status }) => { resolve(status); watch.cancel(); });
    watch.on("error", reject); // The cancellation comes too late to change what was resolved.
  });
}
