// Charges a user, sends the same charge again, and is denied: node build/main.js [ADDRESS]
import { credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import {
  ConsumeRequest,
  type ConsumeResponse,
  EntitlementServiceClient,
  TopUpRequest,
  type TopUpResponse,
} from "./gen/ts/entitlements/v1/entitlement_service.js";
import { ErrorInfo } from "./gen/ts/google/rpc/error_details.js";
import { Status } from "./gen/ts/google/rpc/status.js";

// gRPC sends a charge again where its outcome is unknown. Its key makes that one charge.
const retries = JSON.stringify({
  methodConfig: [{
    name: [{ service: "entitlements.v1.EntitlementService" }],
    retryPolicy: {
      maxAttempts: 5, initialBackoff: "0.2s", maxBackoff: "5s",
      backoffMultiplier: 2.5, retryableStatusCodes: ["UNAVAILABLE", "CANCELLED"],
    },
  }],
});
const address = process.argv[2] ?? "127.0.0.1:50051";
const client = new EntitlementServiceClient(address, credentials.createInsecure(), {
  "grpc.service_config": retries,
});
const deadline = () => ({ deadline: Date.now() + 10_000 });

const topUp = (request: TopUpRequest) =>
  new Promise<TopUpResponse>((resolve, reject) =>
    client.topUp(request, new Metadata(), deadline(), (error, done) =>
      error ? reject(error) : resolve(done)));

const consume = (request: ConsumeRequest) =>
  new Promise<ConsumeResponse>((resolve, reject) =>
    client.consume(request, new Metadata(), deadline(), (error, paid) =>
      error ? reject(error) : resolve(paid)));

// What the service says about an error, or undefined if it comes from elsewhere.
function reason(error: ServiceError): ErrorInfo | undefined {
  const [status] = error.metadata.get("grpc-status-details-bin");
  if (status === undefined) return undefined;
  return Status.decode(status as Buffer).details
    .filter(({ typeUrl }) => typeUrl.endsWith("/google.rpc.ErrorInfo"))
    .map(({ value }) => ErrorInfo.decode(value))
    .find(({ domain }) => domain === "entitlements");
}

await topUp(TopUpRequest.create({ userId: "nora", amount: 3n, idempotencyKey: "gift-1" }));
const charge = ConsumeRequest.create({
  userId: "nora", feature: "full_distribution", idempotencyKey: "final-1",
});
for (const _ of [1, 2]) {
  const { transaction, replayed } = await consume(charge);
  console.log(`charged ${-transaction!.amount}, left ${transaction!.balanceAfter}, replayed ${replayed}`);
}
try {
  await consume({ ...charge, idempotencyKey: "final-2" });
  throw new Error("not denied");
} catch (error) {
  const info = reason(error as ServiceError);
  if (info?.reason !== "INSUFFICIENT_TOKENS") throw error;
  console.log(`denied: ${info.metadata.required} required, ${info.metadata.available} available`);
}
client.close();
