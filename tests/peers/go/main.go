// A caller written in Go, for tests/process/test_peers.py. It prints one JSON object.
//
//	peer calls ADDRESS CONTRACT   a charge, a denial with its details, and a health watch
//	peer idle ADDRESS SECONDS     stays connected without a call, pinging as often as grpc-go can
//
// CONTRACT is a FileDescriptorSet; messages are made from it at run time, without generated code.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

const service = "entitlements.v1.EntitlementService"

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: peer calls ADDRESS CONTRACT | peer idle ADDRESS SECONDS")
	}
	var result any
	var err error
	switch os.Args[1] {
	case "calls":
		result, err = calls(os.Args[2], os.Args[3])
	case "idle":
		var duration time.Duration
		if duration, err = time.ParseDuration(os.Args[3] + "s"); err == nil {
			result, err = idle(os.Args[2], duration)
		}
	default:
		err = fmt.Errorf("there is no %q", os.Args[1])
	}
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		log.Fatal(err)
	}
}

func calls(address, contract string) (any, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	methods, err := methodsOf(contract)
	if err != nil {
		return nil, err
	}
	call := func(method protoreflect.Name, request string) (json.RawMessage, error) {
		descriptor := methods.ByName(method)
		in, out := dynamicpb.NewMessage(descriptor.Input()), dynamicpb.NewMessage(descriptor.Output())
		if err := protojson.Unmarshal([]byte(request), in); err != nil {
			return nil, err
		}
		if err := conn.Invoke(ctx, fmt.Sprintf("/%s/%s", service, method), in, out); err != nil {
			return nil, err
		}
		return protojson.Marshal(out)
	}
	if _, err := call("TopUp", `{"user_id": "go", "amount": 3}`); err != nil {
		return nil, err
	}
	const consume = `{"user_id": "go", "feature": "full_distribution"}`
	charge, err := call("Consume", consume)
	if err != nil {
		return nil, err
	}
	_, denied := call("Consume", consume)
	details := map[string]any{"code": status.Code(denied).String()}
	for _, detail := range status.Convert(denied).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			details["reason"], details["domain"], details["metadata"] = info.Reason, info.Domain, info.Metadata
		}
	}
	watch, err := health.NewHealthClient(conn).Watch(ctx, &health.HealthCheckRequest{Service: service})
	if err != nil {
		return nil, err
	}
	said, err := watch.Recv()
	if err != nil {
		return nil, err
	}
	return map[string]any{"charge": charge, "denial": details, "health": said.Status.String()}, nil
}

func methodsOf(contract string) (protoreflect.MethodDescriptors, error) {
	data, err := os.ReadFile(contract)
	if err != nil {
		return nil, err
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(data, &set); err != nil {
		return nil, err
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		return nil, err
	}
	return serviceIn(files)
}

func serviceIn(files *protoregistry.Files) (protoreflect.MethodDescriptors, error) {
	found, err := files.FindDescriptorByName(service)
	if err != nil {
		return nil, err
	}
	return found.(protoreflect.ServiceDescriptor).Methods(), nil
}

// idle tells in which states the connection was, one after the other.
func idle(address string, duration time.Duration) (any, error) {
	conn, err := grpc.NewClient(
		address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// Shorter times grpc-go makes ten seconds.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, PermitWithoutStream: true}),
		grpc.WithIdleTimeout(0),
	)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), duration)
	defer cancel()
	states := []string{}
	conn.Connect()
	for state := conn.GetState(); ; state = conn.GetState() {
		states = append(states, state.String())
		if state == connectivity.Idle && len(states) > 1 {
			break // The server has sent a GOAWAY.
		}
		if !conn.WaitForStateChange(ctx, state) {
			break
		}
	}
	return map[string]any{"states": states}, nil
}
