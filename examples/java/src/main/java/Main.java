import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import entitlements.v1.ConsumeRequest;
import entitlements.v1.EntitlementServiceGrpc;
import entitlements.v1.TopUpRequest;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeUnit;

/** Charges a user, sends the same charge again, and is denied. */
public final class Main {
  // gRPC sends a charge again where its outcome is unknown. Its key makes that one charge.
  private static final Map<String, ?> RETRIES = Map.of("methodConfig", List.of(Map.of(
      "name", List.of(Map.of("service", "entitlements.v1.EntitlementService")),
      "retryPolicy", Map.of(
          "maxAttempts", 5.0, "initialBackoff", "0.2s", "maxBackoff", "5s",
          "backoffMultiplier", 2.5, "retryableStatusCodes", List.of("UNAVAILABLE", "CANCELLED")))));

  public static void main(String[] arguments) throws Exception {
    var address = arguments.length > 0 ? arguments[0] : "127.0.0.1:50051";
    var channel = Grpc.newChannelBuilder(address, InsecureChannelCredentials.create())
        .defaultServiceConfig(RETRIES)
        .enableRetry()
        .build();
    try {
      var service = EntitlementServiceGrpc.newBlockingStub(channel)
          .withDeadlineAfter(10, TimeUnit.SECONDS);
      service.topUp(TopUpRequest.newBuilder()
          .setUserId("duke").setAmount(3).setIdempotencyKey("gift-1").build());
      var charge = ConsumeRequest.newBuilder()
          .setUserId("duke").setFeature("full_distribution").setIdempotencyKey("final-1");
      for (int attempt = 0; attempt < 2; attempt++) {
        var paid = service.consume(charge.build());
        System.out.printf("charged %d, left %d, replayed %b%n",
            -paid.getTransaction().getAmount(), paid.getTransaction().getBalanceAfter(), paid.getReplayed());
      }
      try {
        service.consume(charge.setIdempotencyKey("final-2").build());
        throw new IllegalStateException("not denied");
      } catch (StatusRuntimeException error) {
        var info = reason(error)
            .filter(found -> found.getReason().equals("INSUFFICIENT_TOKENS"))
            .orElseThrow(() -> error);
        System.out.printf("denied: %s required, %s available%n",
            info.getMetadataOrThrow("required"), info.getMetadataOrThrow("available"));
      }
    } finally {
      channel.shutdown().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  /** What the service says about an error; empty if it comes from elsewhere. */
  private static Optional<ErrorInfo> reason(StatusRuntimeException error)
      throws InvalidProtocolBufferException {
    for (var detail : StatusProto.fromThrowable(error).getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        var info = detail.unpack(ErrorInfo.class);
        if (info.getDomain().equals("entitlements")) {
          return Optional.of(info);
        }
      }
    }
    return Optional.empty();
  }
}
