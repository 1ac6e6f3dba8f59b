// Charges a user, sends the same charge again, and is denied: go run . [ADDRESS]
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "example.org/analytics/gen/go/entitlements/v1"
)

// gRPC sends a charge again where its outcome is unknown. Its key makes that one charge.
const retries = `{"methodConfig": [{
	"name": [{"service": "entitlements.v1.EntitlementService"}],
	"retryPolicy": {"maxAttempts": 5, "initialBackoff": "0.2s", "maxBackoff": "5s",
		"backoffMultiplier": 2.5, "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"]}
}]}`

func main() {
	log.SetFlags(0)
	address := "127.0.0.1:50051"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	conn, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(retries))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	client := pb.NewEntitlementServiceClient(conn)

	gift := &pb.TopUpRequest{UserId: "gopher", Amount: 3, IdempotencyKey: "gift-1"}
	if _, err := client.TopUp(ctx, gift); err != nil {
		log.Fatal(err)
	}
	charge := &pb.ConsumeRequest{UserId: "gopher", Feature: "full_distribution", IdempotencyKey: "final-1"}
	for range 2 {
		paid, err := client.Consume(ctx, charge)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("charged %d, left %d, replayed %t\n",
			-paid.Transaction.Amount, paid.Transaction.BalanceAfter, paid.Replayed)
	}
	charge.IdempotencyKey = "final-2"
	_, err = client.Consume(ctx, charge)
	if info := reason(err); info != nil && info.Reason == "INSUFFICIENT_TOKENS" {
		fmt.Printf("denied: %s required, %s available\n", info.Metadata["required"], info.Metadata["available"])
	} else {
		log.Fatalf("not denied: %v", err)
	}
}

// reason returns what the service says about an error, or nil if it comes from elsewhere.
func reason(err error) *errdetails.ErrorInfo {
	if status.Code(err) == codes.OK {
		return nil
	}
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Domain == "entitlements" {
			return info
		}
	}
	return nil
}
